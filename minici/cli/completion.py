"""Completion for bash and zsh, made from the parsers of the verbs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping

SHELLS = ("bash", "zsh")
_BASH = """\
# bash completion for minici: eval "$(python3 -m minici completion bash)"
_minici() {{
    local first=1 choices=
    if [[ ${{COMP_WORDS[1]}} == -m ]]; then
        [[ ${{COMP_WORDS[2]}} == minici ]] || return 0
        first=3
    fi
    local verb=${{COMP_WORDS[first]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    if (( COMP_CWORD == first )); then
        choices="{verbs}"
    elif (( COMP_CWORD > first )); then
        case "$verb $before" in
{cases}
        esac
    fi
    COMPREPLY=($(compgen -W "$choices" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _minici minici python3 python
"""
_ZSH = """\
# zsh completion for minici: eval "$(python3 -m minici completion zsh)"
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit; }}
autoload -Uz bashcompinit && bashcompinit
{bash}"""


def script(shell: str, parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    """The script for a shell, to be sourced. `parsers` are those of the verbs."""
    cases = "\n".join(
        f'        "{pattern[0]}"{pattern[1]}) choices="{" ".join(words)}" ;;'
        for verb, parser in parsers.items()
        for pattern, words in _cases(verb, parser)
    )
    bash = _BASH.format(verbs=" ".join(parsers), cases=cases)
    return bash if shell == "bash" else _ZSH.format(bash=bash)


def _cases(
    verb: str, parser: argparse.ArgumentParser
) -> Iterator[tuple[tuple[str, str], list[str]]]:
    """The words that may stand behind a verb and a word, by a pattern of both.

    Behind an option that takes a value these are its choices; none are the shell's own, files.
    """
    words: list[str] = []
    for action in parser._actions:
        choices = [str(choice) for choice in action.choices or ()]
        words += action.option_strings or choices
        if action.option_strings and action.nargs != 0:
            for option in action.option_strings:
                yield (f"{verb} {option}", ""), choices
    yield (f"{verb} ", "*"), words
