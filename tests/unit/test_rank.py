"""What a killed trainer leaves behind."""

import subprocess
import sys

TRAINER = """
import os, signal, time
from radtune.train import rank
rank.end_children_with_parent()
if os.fork() == 0:
    print("forked", flush=True)
    time.sleep(60)
else:
    time.sleep(60)
"""


def test_what_a_killed_trainer_forked_ends_and_lets_go_of_its_output() -> None:
    process = subprocess.Popen([sys.executable, "-c", TRAINER], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "forked\n"
    process.kill()
    assert process.communicate(timeout=10)[0] == ""  # the output ends only when nobody holds it
