"""Golden keys: what a few recipes and contexts are stored under, to the byte.

Changing any line here gives every user an empty cache at best, and at worst somebody else's files. Whoever does it on
purpose counts KEY_VERSION up in core/action.py, writes a page in docs/decisions, and then pins the new bytes.
"""

from collections.abc import Callable

import pytest

from capsula.core.action import KEY_VERSION, Keyed, key
from capsula.core.context import Context
from capsula.core.digest import EMPTY, digest_of
from capsula.core.reapi import Action, Command
from capsula.core.recipe import Recipe
from capsula.core.tree import build, leaves
from capsula.core.wire import decode, encode

HELLO = digest_of(b"hello\n")
LINUX = ("linux", "x86_64")


def least() -> Keyed:
    """One word, nothing declared."""
    recipe = Recipe(capsule_id="true", argv=("true",), root="/w", cwd="/w")
    return key(recipe, Context(input_root=EMPTY, directories={}, system=LINUX))


def ordinary() -> Keyed:
    """`capsule -i 'src/**' -o dist -o 'log/*.txt' -e CC -e DEBUG -t v1 -- make all`, in a directory below the root."""
    recipe = Recipe(
        capsule_id="make",
        argv=("make", "all"),
        root="/home/me/project",
        cwd="/home/me/project/app",
        inputs=("src/**",),
        outputs=("log/*.txt", "dist"),
        environment=("DEBUG", "CC"),
        tags=("v1",),
    )
    root, directories = build(
        {
            "app/src": leaves(
                [("main.c", HELLO.hash, 6, False), ("gen.sh", HELLO.hash, 6, True)],
                [("l", "main.c")],
                declared=True,
            ),
            "app/src/empty": leaves([], [], declared=True),
        }
    )
    return key(
        recipe,
        Context(
            input_root=root,
            directories=directories,
            system=LINUX,
            environment=(("CC", "gcc -O2"), ("DEBUG", None)),
        ),
    )


def everything() -> Keyed:
    """Every fact there is, with names that aren't UTF-8."""
    recipe = Recipe(
        capsule_id="über",
        argv=("./-x", "", "a b", "\udcff", "--token=1"),
        root="/w",
        cwd="/w/sub",
        inputs=("//lib/**", "../../t/h.h", "\udcfe", "!**/*.o"),
        outputs=("out", "//top/*.a", "/abs/file", "!out/tmp"),
        environment=("SET", "EMPTY", "UNSET", "RAW"),
        tags=("t2", "t1", "t2"),
        tool_commands=("cc --version",),
        captures=(True, False),
        hash_variable="BUILD_ID",
    )
    root, directories = build({"sub": leaves([("\udcfe", HELLO.hash, 6, False)], [], declared=False)})
    return key(
        recipe,
        Context(
            input_root=root,
            directories=directories,
            system=("darwin", "arm64"),
            outside=(("../../t/h.h", HELLO.hash), ("../../t/e", "/")),
            linked=(("sub/l", HELLO.hash),),
            environment=(("EMPTY", ""), ("RAW", "\udc80"), ("SET", "1"), ("UNSET", None)),
            tools=(("cc --version", 0, HELLO.hash),),
            stdin=HELLO.hash,
        ),
    )


H = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"  # of "hello\n"

# For each: the key (the digest of the Action), the Command, the salt, the root of the inputs, the inputs hash.
GOLDEN = {
    "least": (
        "e1dab850ce15984fcae14738708b91df4c1ec5aa9107cb5926650e8793d3f06b/286",
        b"\n\x04true",
        (
            "2(7:capsula,1:1,)2(2:id,4:true,)3(6:system,5:linux,6:x86_64,)"
            "4(6:option,7:capture,1:1,1:1,)3(6:option,15:inputs_hash_var,19:CAPSULE_INPUTS_HASH,)"
        ),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/0",
        "bdfa4d2abbe358360d5719c571de635b520803346c0a77662c076c58933c2cbd",
    ),
    "ordinary": (
        "8ecfb69fe7e9d778ed87bf6dd41a31680c3ec50d255956b12deb681ebe1961d7/364",
        b"\n\x04make\n\x03all\x12\r\n\x02CC\x12\x07gcc -O22\x03app:\x04dist:\x03log",
        (
            "2(7:capsula,1:1,)2(2:id,4:make,)3(6:system,5:linux,6:x86_64,)2(3:tag,2:v1,)2(5:unset,5:DEBUG,)"
            "2(6:output,4:dist,)2(6:output,9:log/*.txt,)"
            "4(6:option,7:capture,1:1,1:1,)3(6:option,15:inputs_hash_var,19:CAPSULE_INPUTS_HASH,)"
        ),
        "9b69d20eeb92d766b256dafc0a4ca0581e51e41d27636d336994f0c4c88ec668/77",
        "3a8fbe9fbf58de55091b6df41b7ab419b0d25f01f8138bfb1c75de2962d701b6",
    ),
    "everything": (
        "6d1a70982822cfa6edc68dfd9df977a8cec122fc04f454d036eeeaf7242db95b/801",
        (
            b"\n\x04./-x\n\x00\n\x03a b\n\x04\xf4\x8f\xbb\xbf\n\t--token=1"
            b"\x12\x07\n\x05EMPTY\x12\x0b\n\x03RAW\x12\x04\xf4\x8f\xba\x80\x12\x08\n\x03SET\x12\x011"
            b"2\x03sub:\x06../top:\t/abs/file:\x03out"
        ),
        (
            "2(7:capsula,1:1,)2(2:id,5:über,)3(6:system,6:darwin,5:arm64,)2(3:tag,2:t1,)2(3:tag,2:t2,)"
            f"3(7:outside,9:../../t/e,1:/,)3(7:outside,11:../../t/h.h,64:{H},)3(4:link,5:sub/l,64:{H},)"
            f"2(5:stdin,64:{H},)4(4:tool,12:cc --version,1:0,64:{H},)2(5:unset,5:UNSET,)"
            "2(6:output,8:!out/tmp,)2(6:output,9://top/*.a,)2(6:output,9:/abs/file,)2(6:output,3:out,)"
            "4(6:option,7:capture,1:1,1:0,)3(6:option,15:inputs_hash_var,8:BUILD_ID,)"
        ),
        "fcf438bff7ac8f082249712b9a93822ee657639ad8baecddf9e20d06347b1272/77",
        "d2e681ba146cb2b8230793a1b10b17bbdc6bb86120864fed292a14315f9a2b0d",
    ),
}


def test_the_key_version_is_the_one_that_is_pinned_here() -> None:
    assert KEY_VERSION == "1"


@pytest.mark.parametrize("make", [least, ordinary, everything], ids=["least", "ordinary", "everything"])
def test_a_key_never_changes(make: Callable[[], Keyed]) -> None:
    keyed = make()
    action = decode(Action, keyed.blobs[keyed.digest.hash])
    assert action.command_digest is not None
    assert action.input_root_digest is not None
    command = keyed.blobs[action.command_digest.hash]
    found = (
        repr(keyed.digest),
        command,
        action.salt.decode(),
        repr(action.input_root_digest),
        keyed.inputs_hash,
    )
    assert found == GOLDEN[make.__name__]
    # Nothing else is in the action, and its bytes are canonical.
    rest = Action(
        command_digest=action.command_digest, input_root_digest=action.input_root_digest, salt=action.salt
    )
    assert encode(rest) == keyed.blobs[keyed.digest.hash]
    assert encode(decode(Command, command)) == command
