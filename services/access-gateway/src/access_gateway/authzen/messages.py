"""What is asked and answered (OpenID AuthZEN Authorization API 1.0). Unknown fields are ignored.

A subject is ``{"type": "account", "id": <account_id>}``, a resource
``{"type": "service", "id": <service_id>}``, an action ``{"name": <permission>}``. Whatever else is named,
nobody is granted.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

SUBJECT, RESOURCE = "account", "service"
MOST_EVALUATIONS = 1000
MOST_RESULTS = 1000
USUAL_RESULTS = 100

Semantic = Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"]

_Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Subject(_Message):
    """Who."""

    type: _Text
    id: _Text


class Resource(_Message):
    """With what."""

    type: _Text
    id: _Text


class AnyOf(_Message):
    """All of a type; an id is not looked at."""

    type: _Text


class Action(_Message):
    """Does what."""

    name: _Text


class Evaluation(_Message):
    """One question. The context is not looked at: no decision here depends on it."""

    subject: Subject
    action: Action
    resource: Resource


class PartOfEvaluation(_Message):
    """One question of several; what it leaves out, it takes from the defaults."""

    subject: Subject | None = None
    action: Action | None = None
    resource: Resource | None = None


class Options(_Message):
    """How several questions are answered."""

    evaluations_semantic: Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"] = (
        "execute_all"
    )


class Evaluations(PartOfEvaluation):
    """Several questions; without ``evaluations``, one."""

    evaluations: Annotated[list[PartOfEvaluation], Field(max_length=MOST_EVALUATIONS)] = []
    options: Options = Options()


class Page(_Message):
    """Which part of the results."""

    token: Annotated[str, Field(max_length=1000)] = ""
    limit: Annotated[int, Field(ge=0)] = USUAL_RESULTS


class SubjectSearch(_Message):
    """Who may do this with that?"""

    subject: AnyOf
    action: Action
    resource: Resource
    page: Page = Page()


class ResourceSearch(_Message):
    """With what may he do this?"""

    subject: Subject
    action: Action
    resource: AnyOf
    page: Page = Page()


class ActionSearch(_Message):
    """What may he do with that?"""

    subject: Subject
    resource: Resource
    page: Page = Page()


class Decision(_Message):
    """Yes or no, and what it rests on."""

    decision: bool
    context: dict[str, Any]


class Decisions(_Message):
    """In the order of the questions; fewer, when the semantic said to stop."""

    evaluations: list[Decision]


class NextPage(_Message):
    """Where to go on; an empty token: these were the last."""

    next_token: str
    count: int


class Results(_Message):
    """What was found."""

    page: NextPage
    context: dict[str, Any]
    results: list[dict[str, str]]
