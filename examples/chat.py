"""A chat in the terminal: `python examples/chat.py ./glm4-int4`. Ctrl-C stops a reply, Ctrl-D leaves."""

import sys

import edge


def main(folder: str) -> None:
    with edge.Chat(folder, system="Answer in a few sentences.") as chat:
        print(f"{chat.model.source.manifest.source.name} is ready.")
        while True:
            try:
                text = input("\n> ")
            except EOFError:
                return
            events = chat.stream(text)
            try:
                for event in events:
                    match event:
                        case edge.Text(piece):
                            print(piece, end="", flush=True)
                        case edge.Finish(reason, usage) if reason != "stop":
                            print(f" [{reason} after {usage.completion_tokens} tokens]", end="")
            except KeyboardInterrupt:
                events.close()
            except edge.EdgeError as exc:
                print(f"{exc}. {exc.hint}")
            print()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "./glm4-int4")
