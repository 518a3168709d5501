"""Best of N: a language model answers a question several times, and finrank chooses among its answers.

    OPENAI_API_KEY=... python examples/rank_llm_samples.py gpt-4o-mini

OPENAI_BASE_URL names another server with the same API (vLLM, llama.cpp, Ollama). For whole files: `finrank sample`.
"""

import sys

from openai import OpenAI

from finrank import Ranker
from finrank.page.query_text import write_query

PAGE = {
    "question": "what was the percentage growth in costs from 2008 to 2009 ?",
    "table": [["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"], ["costs", "$ 4210", "$ 4302"]],
    "text": ["revenue grew in all regions ."],
}
PROMPT = (
    "\n\nAnswer with one program of add, subtract, multiply and divide, and nothing else. "
    "#0 is the result of its first step: subtract(5829, 5735), divide(#0, 5735)"
)

message = {"role": "user", "content": write_query(**PAGE) + PROMPT}
completion = OpenAI().chat.completions.create(model=sys.argv[1], messages=[message], n=8, temperature=1.0)
samples = [choice.message.content for choice in completion.choices]

answers = Ranker.from_pretrained("finqa-minilm").rank(**PAGE, candidates=samples)
for answer in answers:
    print(f"{answer.answer}  probability {answer.probability:.3f}, {len(answer.indices)} samples: {answer.programs}")
if answers.abstain:
    print("too uncertain to return the first answer")
