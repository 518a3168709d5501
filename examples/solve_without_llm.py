"""Answer a question from its page without a language model: one small model proposes programs, another ranks them.

    python examples/solve_without_llm.py

For whole files: `finrank solve`.
"""

from finrank import Proposer, Ranker

PAGE = {
    "question": "what was the percentage growth in costs from 2008 to 2009 ?",
    "table": [["", "2009", "2008"], ["revenue", "$ 5829", "$ 5735"], ["costs", "$ 4210", "$ 4302"]],
    "text": ["revenue grew in all regions ."],
}

proposed = Proposer.from_pretrained("finqa-proposer").propose(**PAGE, num_candidates=32)
candidates = [candidate.model_dump(exclude_none=True) for candidate in proposed]
answers = Ranker.from_pretrained("finqa-minilm").rank(**PAGE, candidates=candidates)
for answer in answers[:3]:
    print(f"{answer.answer}  probability {answer.probability:.3f}: {answer.programs[0]}")
