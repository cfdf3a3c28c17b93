"""`edge COMMAND --help`: a description, an example that parses, and the default of each flag, in one style."""

import argparse
import re
import shlex

import pytest

from edge.cli import parser
from edge.cli.help_format import HelpFormatter
from edge.config.sections import section_keys
from runtime.backends.openvino.single_request.npu import CONTEXT as NPU_CONTEXT
from runtime.device.memory import CONTEXT
from runtime.sampling import Sampling


def commands():
    """The parsers of the commands, by name."""
    (action,) = parser()._subparsers._group_actions
    return action.choices


def flags(command):
    """The flags that `--help` describes."""
    shown = [action for action in command._actions if action.help != argparse.SUPPRESS]
    return [action for action in shown if action.option_strings and action.dest != "help"]


COMMANDS = commands()
FLAGS = [(name, action) for name, command in COMMANDS.items() for action in flags(command)]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_describes_itself_with_an_example(name):
    command = COMMANDS[name]
    assert re.match(r"[A-Z].+\.$", command.description)
    examples = re.findall(r"^ {4}(.+)$", command.epilog, re.MULTILINE)
    assert examples
    for example in examples:
        edge, *arguments = shlex.split(example.split("| ")[-1])
        assert edge == "edge"
        assert arguments[0] == name
        assert parser().parse_args(arguments).run
        assert f"    {example}\n" in command.format_help()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_is_described(name):
    for action in COMMANDS[name]._actions:
        assert action.help, action
        assert not action.help.endswith("."), action.help


@pytest.mark.parametrize(("name", "action"), FLAGS, ids=[f"{name} {flag.option_strings[0]}" for name, flag in FLAGS])
def test_a_flag_states_its_default(name, action):
    described = HelpFormatter("edge")._expand_help(action)
    if action.nargs == 0 or action.required:  # a switch is off, a required flag has no default
        assert "(default: " not in described
    else:
        assert re.search(r"[^.] \(default: .+\)$", described)
        assert len(re.findall("default", described)) == 1
        assert not action.default or described.endswith(f" (default: {action.default})")


def test_the_context_that_the_help_states_is_the_one_that_is_planned():
    (context,) = [action for action in flags(COMMANDS["doctor"]) if action.dest == "context"]
    assert f"(default: {CONTEXT}, on an NPU {NPU_CONTEXT})" in context.help
    (key,) = [key for key in section_keys("options") if key.name == "context"]
    assert key.default_text == f"{CONTEXT}, on an NPU {NPU_CONTEXT}"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_describes_eight_flags_at_most(name):
    assert len(flags(COMMANDS[name])) <= 8


def test_chat_has_the_flags_of_sampling_that_a_person_types(demo_folder, monkeypatch, capsys):
    from edge.cli import chat

    class Asked(Exception):
        """The Chat is made with these settings."""

    def record(folder, **settings):
        raise Asked(settings["sampling"])

    own = Sampling(temperature=0.8, top_p=0.7, top_k=5, repetition_penalty=1.1)
    monkeypatch.setattr("runtime.chat.Chat", record)
    monkeypatch.setattr("runtime.folder.model_folder.ModelFolder.sampling", lambda folder: own)
    monkeypatch.setattr(chat, "read_stdin", lambda: "Hello")
    cases = {
        "": own,
        "--seed 7": own.override(seed=7),
        "--top-p 0.9": own.override(top_p=0.9),
        "--temperature 0 --max-new-tokens 9": own.override(temperature=0, max_new_tokens=9),
    }
    for typed, wanted in cases.items():
        args = parser().parse_args(["chat", str(demo_folder.path), *typed.split()])
        with pytest.raises(Asked) as asked:
            args.run(args)
        assert asked.value.args == (wanted,), typed


@pytest.mark.slow
def test_a_seed_repeats_a_sampled_reply(demo_folder, monkeypatch, capsys):
    from edge.cli import chat, main

    def reply(seed):
        monkeypatch.setattr(chat, "read_stdin", lambda: "Tell me a story.")
        sampled = ("--temperature", "3", "--top-p", "1", "--max-new-tokens", "24", "--seed", str(seed))
        assert main(["chat", str(demo_folder.path), *sampled]) == 0
        return capsys.readouterr().out

    assert reply(7) == reply(7) != reply(8)
