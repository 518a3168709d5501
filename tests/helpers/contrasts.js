() => {
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = channels(colour).map((one) => one / 255)
      .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const backgroundOf = (one) => {
    const colour = getComputedStyle(one).backgroundColor;
    return channels(colour)[3] === 0 ? backgroundOf(one.parentElement) : colour;
  };
  const texts = [...document.body.querySelectorAll("*")].filter((one) => one.checkVisibility()
    && [...one.childNodes].some((child) => child.nodeType === 3 && child.data.trim() !== "") || one.value);
  return texts.map((one) => {
    const [low, high] = [luminance(getComputedStyle(one).color), luminance(backgroundOf(one))].sort((a, b) => a - b);
    return [(high + 0.05) / (low + 0.05), `${one.tagName} ${one.className} ${one.textContent.slice(0, 30)}`];
  }).sort((a, b) => a[0] - b[0]);
}
