"""Serve a model and rerank with Cohere's own client, which needs `pip install cohere`.

python examples/serve_and_call_with_cohere.py
"""

import re
import subprocess
import sys
import time
import urllib.request

import cohere

from finrank.page.query_text import write_query

query = write_query(
    "what was the percentage growth in costs from 2008 to 2009 ?",
    [["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"], ["costs", "$ 4210", "$ 4302"]],
    ["revenue grew in all regions ."],
)
documents = ["subtract(5829, 5735), divide(#0, 5735)", "subtract(4210, 4302), divide(#0, 4302)", "-2.1 %", "4210"]

command = [sys.executable, "-m", "finrank", "serve", "--model", "finqa-minilm", "--port", "0"]  # 0: a free port
server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
try:
    url = re.search(r"http://\S+", server.stdout.readline())[0]
    while True:
        try:
            urllib.request.urlopen(f"{url}/health")
            break
        except OSError:  # it says its address a moment before it listens
            time.sleep(0.1)
    client = cohere.ClientV2("any key", base_url=url)
    for result in client.rerank(model="any name", query=query, documents=documents, top_n=3).results:
        print(f"{result.relevance_score:.3f} {documents[result.index]}")
finally:
    server.terminate()
    server.wait()
