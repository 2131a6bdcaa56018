"""Reads YAML 1.2 so that nothing is lost: plain text stays text, floats are refused.

Only true, false and null become something other than text; whole numbers are left as they were
written, for the schema to read. Every fault names file and line, and all are reported at once.
"""

from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

NODES_MAX = 2_000_000
DEPTH_MAX = 64

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """What is wrong, and where; line 0 is the file as a whole."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}"


@dataclass(slots=True)
class Tree:
    """A parsed file: plain values, the line of each, and what could not be read."""

    file: str
    value: Any = None
    line_by_path: dict[Path, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def line_of(self, path: Path) -> int:
        """Return the line of the nearest node at or above a path.

        Steps that name no node (a schema's own, such as a union's branch) are passed over.
        """
        at: Path = ()
        for step in path:
            if (*at, step) in self.line_by_path:
                at = (*at, step)
        return self.line_by_path.get(at, 1)


def read_yaml(text: str, file: str) -> Tree:
    """Parse one document."""
    tree = Tree(file)
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        tree.faults.append(Fault(file, line, f"not YAML: {error.problem or error.context}"))
        return tree
    except (YAMLError, ValueError, RecursionError) as error:
        tree.faults.append(Fault(file, 1, f"not YAML: {str(error).splitlines()[0]}"))
        return tree
    if root is not None:
        tree.value = _Builder(tree).value_of(root, ())
    return tree


def write_yaml(value: Any) -> str:
    """Return plain values as YAML that `read_yaml` reads back; text that looks otherwise quoted."""
    writer = YAML(typ="safe", pure=True)
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.default_flow_style = False
    out = StringIO()
    writer.dump(value, out)
    return out.getvalue()


@dataclass(slots=True)
class _Builder:
    tree: Tree
    nodes: int = 0

    def value_of(self, node: Node, path: Path) -> Any:
        self.nodes += 1
        self.tree.line_by_path.setdefault(path, node.start_mark.line + 1)
        if len(path) > DEPTH_MAX or self.nodes > NODES_MAX:
            if not self.tree.faults or self.tree.faults[-1].message != "too deep or too large":
                self._refuse(node, "too deep or too large")
            return None
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.value_of(child, (*path, n)) for n, child in enumerate(node.value)]
        assert isinstance(node, ScalarNode)  # noqa: S101 - there is no fourth kind
        return self._scalar(node)

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, ScalarNode) or not isinstance(key, str):
                self._refuse(key_node, "a key must be plain text")
                continue
            if key in mapping:
                self._refuse(key_node, f"{key} is given twice")
            self.tree.line_by_path[(*path, key)] = key_node.start_mark.line + 1
            mapping[key] = self.value_of(value_node, (*path, key))
        return mapping

    def _scalar(self, node: ScalarNode) -> Any:
        text = str(node.value)
        kind = str(node.tag).rsplit(":", 1)[-1]
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "float":
            self._refuse(node, f'{text} would be a float: write it as text, "{text}"')
        elif kind not in ("str", "int", "timestamp"):
            self._refuse(node, f"the tag {node.tag} is not supported")
        return text

    def _refuse(self, node: Node, message: str) -> None:
        self.tree.faults.append(Fault(self.tree.file, node.start_mark.line + 1, message))
