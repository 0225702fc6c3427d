"""Runs the samples of the README, and checks what they print and cost."""

import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from providers import MODELS
from stack import ADDRESS, TOKEN, available, operator

README = Path(__file__).parents[2] / "README.md"
SAMPLES = re.findall("```python\n(.*?)```", README.read_text(), re.DOTALL)
# The model answers 10 tokens with 20 words, for 0.535 credits.
ANSWER = "word1 .* word20"
EXPECTED = [
    (r"It cost 2\.3 credits\.", "2.3"),
    (ANSWER, "0.535"),
    (r"It cost 0\.915 credits\.", "0.915"),
    (r".*'captured': '0\.815'.*", "0.815"),
    (ANSWER, "0.535"),
    (ANSWER, "0.535"),
    (ANSWER, "0.535"),
    (r"This needs 450000\.5 AI credits .*/settings/ai-credits", "0"),
    (r"the call had no final response .*\n1 call was made later\.", "2.5"),
    (r".* -2\.5\n.* -2\.3\n.*\d+ (None|\S+)", "0"),
]


def test_each_sample_prints_and_costs_what_it_says(tmp_path: Path) -> None:
    assert len(SAMPLES) == len(EXPECTED)
    operator.put_workspace("demo", {"name": "Demo", "plan": "free", "billing_email": "billing@demo.example"})
    grant = {"credits": "1000", "kind": "prepaid", "reason": "samples"}
    operator.request("POST", "/v1/workspaces/demo/grants", body=grant)
    workspace = operator.workspace("demo")
    for sample, (prints, cost) in zip(SAMPLES, EXPECTED, strict=True):
        before = available(workspace)
        (tmp_path / "sample.py").write_text(sample)
        assert re.fullmatch(prints, run(tmp_path / "sample.py").strip(), re.DOTALL)
        assert before - available(workspace) == Decimal(cost)
        assert workspace.get_balance()["held"] == "0"


def test_the_samples_are_typed(tmp_path: Path) -> None:
    files = [tmp_path / f"sample{number}.py" for number in range(len(SAMPLES))]
    for file, sample in zip(files, SAMPLES, strict=True):
        file.write_text(sample)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *files],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def run(sample: Path) -> str:
    env = {
        **os.environ,
        "CREDITS_URL": ADDRESS,
        "CREDITS_KEY": TOKEN,
        "OPENAI_BASE_URL": f"{MODELS}/v1",
        "OPENAI_API_KEY": "key",
        "ANTHROPIC_BASE_URL": MODELS,
        "ANTHROPIC_API_KEY": "key",
    }
    done = subprocess.run([sys.executable, sample], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(done.stderr)
    return done.stdout
