// LogFormatTests: lines as text and as JSON, what may not stand in them, and what is counted.

import Foundation
import Synchronization
import Testing

@testable import MillraceBase

/// A logger's lines.
private final class Lines: Sendable {
  private let all = Mutex<[String]>([])
  func logger(_ format: LogFormat, _ minimum: LogLevel = .debug) -> Logger {
    Logger(minimum: minimum, format: format) { [self] _, line in all.withLock { $0.append(line) } }
  }
  func take() -> [String] {
    all.withLock { all in
      defer { all = [] }
      return all
    }
  }
}

private func object(_ line: String) throws -> [String: Any] {
  try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
}

/// What clients may send as a name: ends of lines, terminal sequences, directions, quotes, the form of a field.
private let hostile = [
  "a\nb", "a\r\n2026-01-01T00:00:00.000Z error log: forged", "\u{1b}[2J\u{1b}]0;owned\u{7}", "x\u{0}y", "\u{85}next",
  "\u{2028}line\u{2029}paragraph", "\u{202e}gnp.exe", "\u{9b}31m", "quote\"and\\backslash", "a=b c=d", "",
  "\u{feff}bom",
  "{\"time\":\"x\"}", "\u{7f}", "é ü 漢字 🙂",
]

@Test("a line of JSON is one object with time, level, component, message and fields", arguments: LogLevel.allCases)
func jsonLines(_ level: LogLevel) throws {
  let lines = Lines()
  lines.logger(.json).log(level, "kafka", "connection refused", ["peer": "127.0.0.1:5", "reason": "say \"no\""])
  let line = lines.take()[0]
  let object = try object(line)
  #expect(object.keys.sorted() == ["component", "fields", "level", "message", "time"])
  #expect(object["level"] as? String == level.name && object["component"] as? String == "kafka")
  #expect(object["message"] as? String == "connection refused")
  #expect(object["fields"] as? [String: String] == ["peer": "127.0.0.1:5", "reason": "say \"no\""])
  let time = try #require(object["time"] as? String)
  #expect(time.wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/) != nil)
}

@Test("a line without fields has an empty object, and the next line of a kind says how many were held back")
func jsonSuppressed() throws {
  let lines = Lines()
  let logger = lines.logger(.json)
  func at(_ seconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: seconds * 1_000_000_000) }
  for _ in 0..<25 { logger.logRarely(.info, "a", "kind", "detail", now: at(0)) }
  #expect(lines.take().count == 10)
  logger.logRarely(.info, "a", "kind", now: at(10))
  let object = try object(lines.take()[0])
  #expect(object["suppressed"] as? Int == 15 && object["message"] as? String == "kind")
  #expect((object["fields"] as? [String: String])?.isEmpty == true)
  #expect(logger.counts == LogCounts(written: [0, 11, 0, 0], suppressed: 15))
}

@Test("no text from outside ends a line, moves a cursor or turns directions", arguments: hostile)
func nothingForgesLines(_ text: String) throws {
  for format in LogFormat.allCases {
    let lines = Lines()
    let logger = lines.logger(format)
    logger.log(.info, "kafka", text, ["client": text])
    logger.logRarely(.info, "kafka", "kind", text, ["client": text])
    for line in lines.take() {
      for scalar in line.unicodeScalars {
        let category = scalar.properties.generalCategory
        #expect(
          ![.control, .format, .lineSeparator, .paragraphSeparator].contains(category), "\(scalar.value) in \(line)")
      }
      if format == .json {
        let shown = (try object(line)["fields"] as? [String: String])?["client"]
        #expect(shown == LogRedaction.printable(text))
      }
    }
  }
}

@Test("in text, a value that could be taken for another field is quoted")
func fieldsAreQuoted() {
  let lines = Lines()
  lines.logger(.text).log(.info, "a", "m", ["x": "1 y=2", "z": "say \"no\"", "e": ""])
  #expect(lines.take()[0].hasSuffix(#" info a: m x="1 y=2" z="say \"no\"" e="""#))
}

@Test("fields whose names stand for secrets are left out, in both formats")
func secretsAreLeftOut() throws {
  for format in LogFormat.allCases {
    let lines = Lines()
    lines.logger(format).log(
      .error, "http", "m",
      ["password": "hunter2", "Authorization": "Basic aHVudGVyMg==", "api-key": "hunter2", "user": "alice"])
    let line = lines.take()[0]
    #expect(!line.contains("hunter2") && !line.contains("aHVudGVy"))
    #expect(line.contains("alice") && line.components(separatedBy: LogRedaction.mark).count == 4)
  }
}

@Test("names of secrets are told from names that only look like them")
func secretNames() {
  for name in [
    "password", "Password", "ssl.key.password", "api-key", "apiKey", "key", "access_token", "accessToken", "secret",
    "Authorization", "client.secret", "x-token-id", "credentials", "cookie", "PASSWORD",
  ] { #expect(LogRedaction.isSecret(name), "\(name)") }
  for name in [
    "", "topic", "monkey", "keys", "keyboard", "tokens-per-second", "passwordless", "secretary", "queue", "user",
    "partition", "hockey-team", "turkey",
  ] { #expect(!LogRedaction.isSecret(name), "\(name)") }
}

@Test("a text of megabytes takes a bounded part of a line, and is cut between characters")
func longTexts() {
  let lines = Lines()
  lines.logger(.text).log(.info, "a", "m", ["name": String(repeating: "漢", count: 1_000_000)])
  let line = lines.take()[0]
  #expect(line.utf8.count < LogRedaction.longestText + 200)
  #expect(line.contains("(3000000 bytes)") && !line.contains("\u{fffd}"))
}

@Test("the format and the level change for all copies of a logger")
func copiesShareTheFormat() throws {
  let lines = Lines()
  let logger = lines.logger(.text, .info)
  let copy = logger
  copy.format = .json
  copy.minimum = .warning
  logger.log(.info, "a", "dropped")
  logger.log(.warning, "a", "kept")
  let all = lines.take()
  #expect(all.count == 1)
  #expect(try object(all[0])["message"] as? String == "kept")
  #expect(logger.counts.written == [0, 0, 1, 0])
}
