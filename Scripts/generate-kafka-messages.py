#!/usr/bin/env python3
"""Writes one Swift file per Kafka message from Scripts/kafka-messages.txt.

usage: generate-kafka-messages.py [OUTPUT-DIRECTORY]     default: Sources/MillraceKafkaProtocol/Messages

The output is committed and formatted as `swift format` wants it; a test compares it with a fresh run. Messages and
structures keep Kafka's names, so that its documentation applies; properties are written as Swift writes them
(GroupId -> groupID, TimeoutMs -> timeoutMilliseconds).
"""

import pathlib
import re
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "Scripts" / "kafka-messages.txt"
OUTPUT = ROOT / "Sources" / "MillraceKafkaProtocol" / "Messages"
WIDTH = 120
ENDLESS = 1 << 15

# type: (Swift type, reader and writer call, smallest size in bytes)
FIXED = {
    "bool": ("Bool", "bool", 1),
    "int8": ("Int8", "int8", 1),
    "int16": ("Int16", "int16", 2),
    "int32": ("Int32", "int32", 4),
    "int64": ("Int64", "int64", 8),
    "float64": ("Double", "float64", 8),
    "uuid": ("TopicID", "topicID", 16),
}
VARIABLE = ("string", "bytes", "records")
# Fields whose pieces are sent one after the other: a fetch is answered from several slices of the log.
GATHERED = {("FetchResponse", "Records"), ("ShareFetchResponse", "Records")}


class Versions:
    """A closed range of versions."""

    def __init__(self, low, high):
        self.low, self.high = low, high

    @staticmethod
    def parse(text):
        if text == "none":
            return Versions(1, 0)
        if text.endswith("+"):
            return Versions(int(text[:-1]), ENDLESS)
        low, _, high = text.partition("-")
        return Versions(int(low), int(high or low))

    def __and__(self, other):
        return Versions(max(self.low, other.low), min(self.high, other.high))

    def empty(self):
        return self.low > self.high

    def covers(self, other):
        return self.low <= other.low and self.high >= other.high

    def condition(self, context):
        """A Swift condition for "version is in self", given that it is in context; None when always true."""
        assert not (self & context).empty()
        if self.covers(context):
            return None
        if self.low <= context.low:
            return f"version <= {self.high}"
        if self.high >= context.high:
            return f"version >= {self.low}"
        if self.low == self.high:
            return f"version == {self.low}"
        return f"({self.low}...{self.high}).contains(version)"

    def __str__(self):
        if self.high >= ENDLESS:
            return f"{self.low}+"
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


class Field:
    """One field of a message or structure; `fields` are those of the structure it holds.

    `shared` are the versions of that structure when several fields hold it: it is then declared once, for all of them.
    """

    def __init__(self, name, kind, attributes):
        self.name, self.kind, self.fields, self.shared = name, kind, [], None
        self.versions, self.null, self.tag, self.default = None, Versions(1, 0), None, None
        for word in attributes:
            if re.fullmatch(r"v\d.*", word):
                self.versions = Versions.parse(word[1:])
            elif word.startswith("null:"):
                self.null = Versions.parse(word[5:])
            elif word.startswith("tag:"):
                self.tag = int(word[4:].split("@")[0])
            elif word.startswith("default:"):
                self.default = word[8:]
            elif word not in ("key", "ignorable"):
                sys.exit(f"{name}: unknown attribute {word}")
        self.is_array = kind.startswith("[]")
        self.element = kind[2:] if self.is_array else kind

    def structure(self, message):
        """The structure it holds."""
        context = self.context if self.shared is None else self.shared & message.context
        return Structure(self.element, message, self.fields, context)

    @property
    def property(self):
        name = re.sub(r"Id(?=[A-Z]|$)", "ID", self.name)
        name = re.sub(r"Ids$", "IDs", name)
        name = re.sub(r"Ms$", "Milliseconds", name)
        return name[0].lower() + name[1:]


class Structure:
    """A message, or a structure inside one."""

    def __init__(self, name, message, fields, context):
        self.name, self.message, self.fields, self.context = name, message, fields, context
        for field in fields:
            field.context = field.versions & context
        self.fields = [field for field in fields if not field.context.empty()]

    def nested(self):
        for field in self.fields:
            if field.fields and field.shared is None:
                inner = field.structure(self.message)
                yield inner
                yield from inner.nested()


class Message(Structure):
    """A message; `shared` are the declarations of the structures that several of its fields hold."""

    def __init__(self, name, key, valid, flexible, fields):
        self.key, self.flexible = key, flexible
        self.shared = [field for field in fields if field.name == "struct"]
        for field in self.shared:
            field.shared = field.versions
        self.resolve(fields)
        super().__init__(name, self, [field for field in fields if field.name != "struct"], valid)

    def resolve(self, fields):
        """Gives the fields that hold a shared structure its fields."""
        for field in fields:
            if not field.fields and field.element not in FIXED and field.element not in VARIABLE:
                declared = [one for one in self.shared if one.kind == field.element]
                if len(declared) != 1:
                    sys.exit(f"{field.name}: {len(declared)} structures are called {field.element}")
                field.fields, field.shared = declared[0].fields, declared[0].versions
            elif field.shared is None or field.name == "struct":
                self.resolve(field.fields)

    def nested(self):
        yield from super().nested()
        for field in self.shared:
            inner = field.structure(self)
            yield inner
            yield from inner.nested()


def parse(text):
    messages = []
    for block in re.split(r"\n\s*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        lines = [line for line in block.split("\n") if line.strip()]
        if not lines:
            continue
        name, *words = lines[0].split()
        head = dict(word.split("=") for word in words)
        top, stack = [], []
        for line in lines[1:]:
            depth = (len(line) - len(line.lstrip())) // 2
            name_, kind, *attributes = line.split()
            field = Field(name_, kind, attributes)
            del stack[depth - 1:]
            (stack[-1].fields if stack else top).append(field)
            stack.append(field)
        messages.append(
            Message(name, int(head["key"]), Versions.parse(head["valid"]), Versions.parse(head["flexible"]), top))
    return messages


def compact(structure):
    """The Swift expression for "lengths are compact" inside a structure."""
    flexible, context = structure.message.flexible, structure.context
    if (flexible & context).empty():
        return "false"
    return "true" if flexible.covers(context) else "compact"


def minimum_size(structure, version):
    """The smallest encoding of a structure in a version, in bytes."""
    flexible = structure.message.flexible
    is_flexible = flexible.low <= version <= flexible.high
    size = 1 if is_flexible else 0
    for field in structure.fields:
        if field.tag is not None or not field.context.low <= version <= field.context.high:
            continue
        if field.is_array or field.element in ("bytes", "records"):
            size += 1 if is_flexible else 4
        elif field.element == "string":
            size += 1 if is_flexible else 2
        elif field.element in FIXED:
            size += FIXED[field.element][2]
        elif field.null.low <= version <= field.null.high:
            size += 1
        else:
            size += minimum_size(field.structure(structure.message), version)
    return size


def element_size(field, structure):
    """The smallest encoding of an array's element in any version, in bytes."""
    inner = field.structure(structure.message)
    return min(minimum_size(inner, version) for version in range(field.context.low, field.context.high + 1))


def is_gathered(field, structure):
    return (structure.message.name, field.name) in GATHERED


def is_error_code(field):
    return field.element == "int16" and field.name.endswith("ErrorCode")


def swift_type(field, structure):
    element = field.element
    if is_gathered(field, structure):
        return "[Bytes]"
    if is_error_code(field):
        kind = "KafkaErrorCode"
    elif element in FIXED:
        kind = FIXED[element][0]
    else:
        kind = {"string": "String", "bytes": "Bytes", "records": "Bytes"}.get(element, element)
    if field.is_array:
        kind = f"[{kind}]"
    return kind if (field.null & field.context).empty() else kind + "?"


def default_value(field, structure):
    nullable = not (field.null & field.context).empty()
    if is_gathered(field, structure) or field.is_array and field.default is None:
        return "[]"
    if field.default == "null":
        return "nil" if nullable else {"string": '""'}.get(field.element, f"{field.element}()")
    if field.element == "string":
        return '"' + (field.default or "") + '"'
    if field.element == "bytes":
        return "Bytes()"
    if field.element == "records":
        return "nil"
    if field.element == "uuid":
        return ".zero"
    if field.element == "bool":
        return (field.default or "false").lower()
    if is_error_code(field):
        return ".none"
    if field.element in FIXED:
        value = int(field.default or "0", 0)
        names = {2**31 - 1: "Int32.max", -(2**31): "Int32.min", 2**63 - 1: "Int64.max"}
        return names.get(value, str(value))
    return f"{field.element}()"


def field_doc(field):
    text = f"Kafka's `{field.name}`, versions {field.versions}"
    if field.tag is not None:
        text += f", tag {field.tag}"
    if not (field.null & field.context).empty():
        text += f"; may be null in versions {field.null}"
    return text + "."


def read(field, structure, reader="reader"):
    """The Swift expression that reads a field."""
    mode, element = compact(structure), field.element
    nullable = not (field.null & field.context).empty()
    if nullable and not field.null.covers(field.context):
        # Versions that know no null refuse it.
        either = []
        for null in (field.context, Versions(1, 0)):
            one = Field(field.name, field.kind, [])
            one.versions, one.context, one.fields, one.null = field.versions, field.context, field.fields, null
            one.shared = field.shared
            either.append(read(one, structure, reader).removeprefix("try "))
        condition = field.null.condition(field.context)
        return f"try {condition} ? {either[0]} : {either[1]}"

    def name(base):
        return "nullable" + base[0].upper() + base[1:] if nullable else base

    if is_gathered(field, structure):
        return f"try {reader}.gatheredBytes(compact: {mode})"
    if field.is_array:
        if field.fields:
            size = element_size(field, structure)
            return f"try {reader}.{name('array')}(compact: {mode}, version: version, minimumElementSize: {size})"
        return f"try {reader}.{name(element + 'Array')}(compact: {mode})"
    if is_error_code(field):
        return f"KafkaErrorCode(rawValue: try {reader}.int16())"
    if element in FIXED:
        return f"try {reader}.{FIXED[element][1]}()"
    if element in VARIABLE:
        base = "string" if element == "string" else "bytes"
        return f"try {reader}.{name(base)}(compact: {mode})"
    if nullable:
        return f"try {reader}.nullableStructure(version: version)"
    return f"try {element}(from: &{reader}, version: version)"


def write(field, structure, writer="writer"):
    """The Swift statement that writes a field."""
    mode, element, value = compact(structure), field.element, field.property
    nullable = not (field.null & field.context).empty()
    # Versions that know no null get the empty value.
    if nullable and not field.null.covers(field.context):
        empty = {"string": '""', "bytes": "Bytes()", "records": "Bytes()"}[element] if not field.is_array else "[]"
        condition = field.null.condition(field.context)
        value = f"{condition} ? {value} : {value} ?? {empty}"
    if is_gathered(field, structure):
        return f"{writer}.gatheredBytes({value}, compact: {mode})"
    if field.is_array:
        if field.fields:
            return f"{writer}.array({value}, compact: {mode}, version: version)"
        return f"{writer}.{element}Array({value}, compact: {mode})"
    if is_error_code(field):
        return f"{writer}.int16({value}.rawValue)"
    if element in FIXED:
        return f"{writer}.{FIXED[element][1]}({value})"
    if element in VARIABLE:
        base = "string" if element == "string" else "bytes"
        return f"{writer}.{base}({value}, compact: {mode})"
    if nullable:
        return f"{writer}.nullableStructure({value}, version: version)"
    return f"{value}.encode(to: &{writer}, version: version)"


def guarded(condition, statement, indent):
    """`statement`, under `condition` if there is one."""
    pad = " " * indent
    if condition is None:
        choice = re.fullmatch(r"(\w+ =) (try .*) (\? .*) (: .*)", statement)
        if len(pad + statement) > WIDTH and choice:
            return [pad + choice[1]] + [f"{pad}  {choice[part]}" for part in (2, 3, 4)]
        return [pad + statement]
    line = f"{pad}if {condition} {{ {statement} }}"
    if len(line) <= WIDTH:
        return [line]
    return [f"{pad}if {condition} {{"] + guarded(None, statement, indent + 2) + [f"{pad}}}"]


def coding(structure, indent):
    """The decoding initialiser and the encoding method."""
    pad, flexible = " " * indent, structure.message.flexible
    untagged = [field for field in structure.fields if field.tag is None]
    tagged = [field for field in structure.fields if field.tag is not None]
    has_tags = not (flexible & structure.context).empty()
    tag_condition = "compact" if compact(structure) == "compact" else None
    uses_mode = has_tags and compact(structure) == "compact"
    is_message = isinstance(structure, Message)
    mode = [f"{pad}  let compact = {flexible.condition(structure.context)}"] if uses_mode else []

    out = [f"{pad}/// Reads what Kafka's version `version` holds; the other properties keep their defaults."]
    out.append(f"{pad}public init(from reader: inout ByteReader, version: Int16) throws(DecodingError) {{")
    if is_message:
        out.append(f"{pad}  try Self.check(version, at: reader)")
    out += mode
    for field in untagged:
        out += guarded(
            field.versions.condition(structure.context), f"{field.property} = {read(field, structure)}", indent + 2)
    if has_tags:
        if tagged:
            body = [f"{pad}  for _ in 0..<(try reader.tagCount()) {{"]
            body += [f"{pad}    var field = try reader.taggedField()", f"{pad}    switch field.tag {{"]
            for field in tagged:
                condition = field.versions.condition(structure.context & flexible)
                where = f" where {condition}" if condition else ""
                body.append(f"{pad}    case {field.tag}{where}:")
                body.append(f"{pad}      {field.property} = {read(field, structure, 'field.value')}")
            body += [f"{pad}    default: break", f"{pad}    }}", f"{pad}  }}"]
            if tag_condition:
                body = [f"{pad}  if compact {{"] + ["  " + line for line in body] + [f"{pad}  }}"]
            out += body
        else:
            out += guarded(tag_condition, "try reader.skipTaggedFields()", indent + 2)
    out += [f"{pad}}}", ""]

    out.append(f"{pad}/// Writes what Kafka's version `version` holds.")
    out.append(f"{pad}public func encode(to writer: inout ByteWriter, version: Int16) {{")
    if is_message:
        out.append(f"{pad}  Self.require(version)")
    out += mode
    for field in untagged:
        out += guarded(field.versions.condition(structure.context), write(field, structure), indent + 2)
    if has_tags:
        if tagged:
            body = [f"{pad}  var tags = TaggedFieldWriter()"]
            for field in tagged:
                condition = field.versions.condition(structure.context & flexible)
                test = f"{field.property} != {default_value(field, structure)}"
                if condition:
                    test = f"{condition}, {test}"
                body.append(f"{pad}  if {test} {{")
                statement = write(field, structure, "field")
                body.append(f"{pad}    tags.add({field.tag}) {{ field in {statement} }}")
                body.append(f"{pad}  }}")
            body.append(f"{pad}  tags.write(to: &writer)")
            if tag_condition:
                body = [f"{pad}  if compact {{"] + ["  " + line for line in body] + [f"{pad}  }}"]
            out += body
        else:
            out += guarded(tag_condition, "writer.noTaggedFields()", indent + 2)
    out.append(f"{pad}}}")
    return out


def members(structure, indent):
    """Properties and the memberwise initialiser."""
    pad = " " * indent
    out = []
    for field in structure.fields:
        out.append(f"{pad}/// {field_doc(field)}")
        out.append(f"{pad}public var {field.property}: {swift_type(field, structure)} = {default_value(field, structure)}")
    parameters = [
        f"{field.property}: {swift_type(field, structure)} = {default_value(field, structure)}"
        for field in structure.fields
    ]
    out += ["", f"{pad}/// A value with Kafka's default where nothing is given."]
    line = f"{pad}public init({', '.join(parameters)}) {{"
    if len(line) <= WIDTH:
        out.append(line)
    else:
        # Spaces inside a parameter are kept together while the lines are filled.
        text = ", ".join(parameter.replace(" ", "\0") for parameter in parameters)
        lines = textwrap.wrap(text, WIDTH - indent - 2, break_long_words=False, break_on_hyphens=False)
        out += [f"{pad}public init("] + [f"{pad}  " + line.replace("\0", " ") for line in lines] + [f"{pad}) {{"]
    out += [f"{pad}  self.{field.property} = {field.property}" for field in structure.fields]
    out += [f"{pad}}}", ""]
    return out


def message_file(message):
    api = re.sub(r"(Request|Response)$", "", message.name)
    case = api[0].lower() + api[1:]
    is_request = message.name.endswith("Request")
    kind = "request" if is_request else "response"
    protocol = "KafkaRequest" if is_request else "KafkaResponse"
    flexible = "Int16.max" if message.flexible.empty() else str(message.flexible.low)
    first = f"// {message.name}: Kafka's {api} {kind} (API {message.key}), versions {message.context}."
    out = [first, "// Generated by Scripts/generate-kafka-messages.py from Scripts/kafka-messages.txt; edit those.", ""]
    out += ["import MillraceBase"]
    if "uuid" in {field.element for s in [message, *message.nested()] for field in s.fields}:
        out.append("import MillraceModel")
    out += ["", f"/// Kafka's {api} {kind}, versions {message.context}; flexible from version {flexible}."]
    out.append(f"public struct {message.name}: {protocol}, Equatable, Sendable {{")
    if is_request:
        out += ["  /// What answers this request.", f"  public typealias Response = {api}Response"]
    out += ["  /// The API.", f"  public static let api = APIKey.{case}"]
    out += ["  /// Versions that can be read and written."]
    out += [f"  public static let versions: ClosedRange<Int16> = {message.context.low}...{message.context.high}", ""]
    out += members(message, 2)
    out += coding(message, 2)
    seen = set()
    for structure in message.nested():
        if structure.name in seen:
            sys.exit(f"{message.name}: two structures are called {structure.name}")
        seen.add(structure.name)
        out += ["", f"  /// Kafka's `{structure.name}`."]
        out.append(f"  public struct {structure.name}: KafkaStructure, Equatable, Sendable {{")
        out += members(structure, 4)
        out += coding(structure, 4)
        out.append("  }")
    out += ["}", ""]
    return "\n".join(out)


def main():
    output = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    output.mkdir(parents=True, exist_ok=True)
    messages = parse(SCHEMA.read_text())
    for message in messages:
        (output / f"{message.name}.swift").write_text(message_file(message))


if __name__ == "__main__":
    main()
