"""Answers that a program can rely on: a choice, a date, a pydantic model.

`python examples/strict_answers.py ./glm4-int4`

The grammar is enforced while the model writes, so that a small model cannot break it either.
"""

import sys
from typing import Literal

from pydantic import BaseModel

import edge

REVIEW = "The coffee was cold and the waiter rude. At least the terrace is lovely. I was there on 3 May 2025."


class Review(BaseModel):
    mood: Literal["positive", "mixed", "negative"]
    topics: list[Literal["food", "service", "place", "price"]]


def main(folder: str) -> None:
    with edge.Chat(folder, system="You read reviews of restaurants.", temperature=0) as chat:
        print(chat.send(f"Would the writer come back? {REVIEW}", answer=["yes", "no", "unclear"]))
        print(chat.send("On which day was the visit?", answer=edge.Regex("[0-9]{4}-[0-9]{2}-[0-9]{2}")))
        reply = chat.send("Classify the review.", answer=Review, max_tokens=200)
        if reply.finish_reason == "stop":
            review = Review.model_validate_json(reply.text)
            print(review.mood, review.topics)
        else:
            print(f"no answer: {reply.finish_reason}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "./glm4-int4")
