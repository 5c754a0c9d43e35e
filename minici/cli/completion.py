"""Completion for bash and zsh, made from the parser."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

_BASH = """\
# bash completion for minici: source <(python3 -m minici completion bash)
_minici() {{
    local first=1 words
    if [[ ${{COMP_WORDS[1]}} == -m ]]; then
        [[ ${{COMP_WORDS[2]}} == minici ]] || return
        first=3
    fi
    local verb=${{COMP_WORDS[first]}} current=${{COMP_WORDS[COMP_CWORD]}}
    if (( COMP_CWORD == first )); then
        words="{verbs}"
    else
        case $verb in
{cases}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _minici minici python3 python
"""
_ZSH = """\
# zsh completion for minici: source <(python3 -m minici completion zsh)
autoload -Uz bashcompinit && bashcompinit
{bash}"""


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script for a shell, to be sourced."""
    options = _options(parser)
    cases = "\n".join(
        f'        {verb}) words="{" ".join(words)}" ;;' for verb, words in options.items()
    )
    bash = _BASH.format(verbs=" ".join(options), cases=cases)
    return bash if shell == "bash" else _ZSH.format(bash=bash)


def _options(parser: argparse.ArgumentParser) -> Mapping[str, list[str]]:
    """The words that may follow each verb: its options and the choices of its arguments."""
    found: dict[str, list[str]] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb, each in action.choices.items():
                words = [word for a in each._actions for word in a.option_strings]
                words += [str(choice) for a in each._actions for choice in a.choices or ()]
                found[verb] = words
    return found
