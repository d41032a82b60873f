// ConfigurationFile: a server's configuration file: lines of NAME=VALUE, in UTF-8.
//
//   # a comment; so is a line that begins with !
//   num.partitions = 3          blanks around name and value do not count; a # behind a value is part of it
//   listeners=kafka://127.0.0.1:9092,\
//     amqp://127.0.0.1:5672     a line that ends with a backslash goes on in the next one, without its first blanks
//
// A backslash elsewhere stands for itself. A name may stand once. The form is that of Kafka's server.properties, without the
// escapes of Java's property files.

import MillraceBase

/// A file's entries, and all that is wrong with it as a text.
struct ConfigurationFile: Equatable {
  /// A name with its value.
  struct Entry: Equatable {
    var name: String
    var value: String
    /// Counted from 1; the first of an entry that goes over several.
    var line: Int
  }

  /// Most bytes of a file.
  static let limit = 1 << 20

  let path: String
  private(set) var entries: [Entry] = []
  private(set) var problems: [ConfigurationProblem] = []
  /// Where each name stands.
  private var lines: [String: Int] = [:]

  /// Reads the bytes of the file at `path`.
  init(_ bytes: [UInt8], path: String) {
    self.path = path
    var lines: [(number: Int, text: String)] = []
    // The first line of an entry that goes on.
    var open: (number: Int, text: String)?
    for (index, raw) in bytes.split(separator: 0x0a, omittingEmptySubsequences: false).enumerated() {
      let number = index + 1
      guard var text = String(validating: raw.last == 0x0d ? raw.dropLast() : raw, as: UTF8.self) else {
        complain(number, "this line is not UTF-8")
        open = nil
        continue
      }
      if number == 1, text.unicodeScalars.first == "\u{feff}" { text.unicodeScalars.removeFirst() }
      // Also at the end, where a blank behind a backslash could not be seen.
      text = ConfigurationFile.trimmed(text[...])
      if let begun = open {
        text = begun.text + text
      } else if text.utf8.first == UInt8(ascii: "#") || text.utf8.first == UInt8(ascii: "!") {
        continue
      }
      let line = open?.number ?? number
      if text.hasSuffix("\\") {
        open = (line, String(text.dropLast()))
      } else {
        open = nil
        lines.append((line, text))
      }
    }
    if let open { lines.append(open) }
    for line in lines { take(line.text, line.number) }
  }

  private mutating func complain(_ line: Int, _ text: String) {
    problems.append(ConfigurationProblem(place: place(line), text: text))
  }

  /// A line as messages name it.
  func place(_ line: Int) -> String { "\(path):\(line)" }

  private mutating func take(_ text: String, _ line: Int) {
    let text = ConfigurationFile.trimmed(text[...])
    guard !text.isEmpty else { return }
    // What stands there may be a secret in the wrong place, and is not repeated.
    guard let equals = text.firstIndex(of: "=") else { return complain(line, "NAME=VALUE is expected") }
    let name = ConfigurationFile.trimmed(text[..<equals])
    let value = ConfigurationFile.trimmed(text[text.index(after: equals)...])
    guard !name.isEmpty else { return complain(line, "there is no name before the =") }
    guard !value.unicodeScalars.contains(where: { $0.value < 32 && $0 != "\t" || $0.value == 127 }) else {
      return complain(line, "\(LogRedaction.printable(name)) holds a control character")
    }
    if let first = lines[name] {
      return complain(line, "\(LogRedaction.printable(name)) stands in line \(first) already")
    }
    lines[name] = line
    entries.append(Entry(name: name, value: value, line: line))
  }

  private static func trimmed(_ text: Substring) -> String {
    let scalars = text.unicodeScalars.drop { $0 == " " || $0 == "\t" }
    let blanks = scalars.reversed().prefix { $0 == " " || $0 == "\t" }.count
    return String(Substring(scalars.dropLast(blanks)))
  }
}
