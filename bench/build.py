"""The work that every tool wraps: reads src/, writes dist/, and leaves a line in a log to prove that it ran.

Output number k depends on the inputs whose number leaves k when divided by the number of outputs, so
editing one input changes one output. The log lies beside this file, outside every workspace: no tool
watches it, and a tool that hides the environment from its tasks can't hide it.
"""

import hashlib
import os
import random
import sys

OUTPUTS = 200
OUTPUT_SIZE = 20_480


def input_name(number: int) -> str:
    return f"src/d{number % 40:02d}/f{number:06d}.txt"


def output_name(number: int) -> str:
    return f"dist/d{number % 10}/o{number:03d}.txt"


def output_text(number: int, inputs: list[bytes]) -> bytes:
    """Text of the size wanted that compresses to about half, as sources and logs do."""
    seed = hashlib.sha256(b"".join(inputs)).hexdigest()
    return random.Random(f"{seed} {number}").randbytes(OUTPUT_SIZE // 2).hex().encode()


def main() -> None:
    count = sum(len(names) for _, _, names in os.walk("src"))
    for number in range(OUTPUTS):
        inputs = []
        for i in range(number, count, OUTPUTS):
            with open(input_name(i), "rb") as source:
                inputs.append(source.read())
        name = output_name(number)
        os.makedirs(os.path.dirname(name), exist_ok=True)
        with open(name, "wb") as target:
            target.write(output_text(number, inputs))
    print(f"built {OUTPUTS} outputs from {count} inputs")
    print("a line for stderr", file=sys.stderr)
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "runs.log"), "a") as log:
        log.write("ran\n")


if __name__ == "__main__":
    main()
