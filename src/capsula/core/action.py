"""The action: the exact thing to execute, in the Remote Execution API's form; its digest is the cache key."""

from capsula.core.digest import Digest, digest_of, sha256
from capsula.core.facts import pack
from capsula.core.names import to_text
from capsula.core.reapi import Action, Command, EnvironmentVariable
from capsula.core.recipe import output_prefixes
from capsula.core.secrets import is_secret, is_shown_as_it_is
from capsula.core.wire import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from capsula.core.context import Context
    from capsula.core.facts import Fact
    from capsula.core.recipe import Recipe

# Changing anything that enters a key needs a new number here: old entries are then simply never found again.
KEY_VERSION = "1"


class Keyed:
    """An action with its blobs: `digest` is the key, `blobs` holds Action, Command and every Directory by hash.

    `secret` are the hashes of those among them that hold what looks like a credential: they are never stored.
    """

    __slots__ = ("blobs", "digest", "inputs_hash", "secret")

    def __init__(
        self, digest: Digest, inputs_hash: str, blobs: dict[str, bytes], secret: "frozenset[str]"
    ) -> None:
        self.digest = digest
        self.secret = secret
        self.inputs_hash = inputs_hash
        self.blobs = blobs


def key(recipe: "Recipe", context: "Context") -> Keyed:
    command = encode(
        Command(
            arguments=tuple([to_text(argument) for argument in recipe.argv]),
            environment_variables=tuple(
                [
                    EnvironmentVariable(name=to_text(name), value=to_text(value))
                    for name, value in context.environment
                    if value is not None
                ]
            ),
            output_paths=tuple(sorted([to_text(path) for path in output_prefixes(recipe)])),
            working_directory=to_text(recipe.working_directory),
        )
    )
    action = encode(
        Action(
            command_digest=digest_of(command),
            input_root_digest=context.input_root,
            salt=pack(salt_facts(recipe, context)),
        )
    )
    digest, command_digest = digest_of(action), digest_of(command)
    blobs = {**context.directories, command_digest.hash: command, digest.hash: action}
    secret = frozenset(
        ([] if _command_can_be_shown(recipe, context) else [command_digest.hash])
        + ([] if _salt_can_be_shown(recipe, context) else [digest.hash])
    )
    return Keyed(digest, inputs_hash(recipe, context), blobs, secret)


def _command_can_be_shown(recipe: "Recipe", context: "Context") -> bool:
    values = [(name, value) for name, value in context.environment if value is not None]
    return is_shown_as_it_is(" ".join(recipe.argv)) and not any(
        [is_secret(name) or not is_shown_as_it_is(value) for name, value in values]
    )


def _salt_can_be_shown(recipe: "Recipe", context: "Context") -> bool:
    """A short password can be guessed from its hash: an argument of a telling name isn't kept even as that."""
    return all(map(is_shown_as_it_is, (*recipe.tags, *recipe.tool_commands))) and not any(
        [is_secret(fact[1]) for fact in context.recorded]
    )


def salt_facts(recipe: "Recipe", context: "Context") -> "list[Fact]":
    """Everything that may change the result and has no place of its own in an Action or a Command (docs/format.md)."""
    facts: list[Fact] = [("capsula", KEY_VERSION), ("id", recipe.capsule_id), ("system", *context.system)]
    facts += [("tag", tag) for tag in recipe.tags]
    facts += context.input_facts()
    facts += [("unset", name) for name, value in context.environment if value is None]
    facts += [("output", pattern) for pattern in sorted(set(recipe.outputs))]
    facts.append(("option", "capture", *[str(int(wanted)) for wanted in recipe.captures]))
    facts.append(("option", "inputs_hash_var", recipe.hash_variable))
    facts += sorted(set(context.recorded))
    return facts


def inputs_hash(recipe: "Recipe", context: "Context") -> str:
    """The build id of the inputs and tags alone: no argv, no id, no environment. 64 hexadecimal characters."""
    facts: list[Fact] = [("inputs", KEY_VERSION, context.input_root.hash)]
    facts += [("tag", tag) for tag in recipe.tags]
    facts += context.input_facts()
    return sha256(pack(facts)).hexdigest()
