// ConfigurationFileTests: what a configuration file says, and every line that is wrong.

import MillraceBase
import Testing

@testable import MillraceServer

private func file(_ text: String) -> ConfigurationFile { ConfigurationFile(Array(text.utf8), path: "f") }

private func pairs(_ text: String) -> [String] {
  let file = file(text)
  #expect(file.problems.isEmpty, "\(file.problems)")
  return file.entries.map { "\($0.line) \($0.name)=\($0.value)" }
}

@Test("names, values, comments, blanks and ends of lines")
func readsFiles() {
  #expect(pairs("").isEmpty)
  #expect(pairs("\n\n# a=b\n  ! c=d\n\t\n").isEmpty)
  #expect(pairs("a=1\nb = 2 \n\tc\t=\t3\t\r\nd=\ne==x=y\n") == ["1 a=1", "2 b=2", "3 c=3", "4 d=", "5 e==x=y"])
  #expect(pairs("a=1") == ["1 a=1"], "without an end of the line")
  #expect(pairs("a = b # no comment") == ["1 a=b # no comment"])
  #expect(pairs("\u{feff}a=1\n") == ["1 a=1"], "with the mark that some editors write")
  #expect(pairs("a=ü 漢\n") == ["1 a=ü 漢"])
}

@Test("a line that ends with a backslash goes on, and is counted where it began")
func joinsLines() {
  #expect(pairs("a=x,\\\n   y,\\\r\n  z\nb=1\n") == ["1 a=x,y,z", "4 b=1"])
  #expect(pairs("a=\\d\\.\n") == ["1 a=\\d\\."], "inside of a line it stands for itself")
  #expect(pairs("# a comment \\\nb=1\n") == ["2 b=1"], "comments do not go on")
  #expect(pairs("a=1\\") == ["1 a=1"])
  #expect(pairs("a=1\\ \t\n 2\n") == ["1 a=12"], "blanks behind the backslash cannot be seen, and do not count")
}

@Test("every line that is wrong is named, and values are not repeated")
func problemsAreNamed() {
  let file = file("good=1\nhunter2\n=hunter2\ngood=hunter2\nx=a\u{7}b\nother = 3\n")
  #expect(
    file.problems.map(\.description) == [
      "f:2: NAME=VALUE is expected", "f:3: there is no name before the =", "f:4: good stands in line 1 already",
      "f:5: x holds a control character",
    ])
  #expect(file.entries.map(\.name) == ["good", "other"], "what is sound is read all the same")
  let broken = ConfigurationFile([0x61, 0x3d, 0xff, 0x0a, 0x62, 0x3d, 0x31], path: "f")
  #expect(broken.problems.map(\.description) == ["f:1: this line is not UTF-8"])
  #expect(broken.entries.map(\.name) == ["b"])
}

@Test("a name that is nearly right is told apart from one that means something else")
func nearestNames() {
  let names = ["num.partitions", "log.retention.ms", "log.retention.bytes", "data", "host", "kafka"]
  for (typed, meant) in [
    ("num.partition", "num.partitions"), ("num.partitoins", "num.partitions"), ("NUM_PARTITIONS", "num.partitions"),
    ("log-retention-ms", "log.retention.ms"), ("log.retention.byte", "log.retention.bytes"), ("dat", "data"),
    ("dtaa", "data"), ("numpartitions", "num.partitions"),
  ] { #expect(NearestName.of(typed, among: names) == meant, "\(typed)") }
  for typed in ["", "zookeeper.connect", "xy", "broker.id", String(repeating: "a", count: 100_000)] {
    #expect(NearestName.of(typed, among: names) == nil, "\(typed.prefix(20))")
  }
}

@Test("the distance of two names counts what must be typed anew")
func distances() {
  for (left, right, count) in [
    ("", "", 0), ("a", "", 1), ("", "abc", 3), ("abc", "abc", 0), ("abc", "abd", 1), ("abc", "acb", 1),
    ("ab", "abc", 1),
    ("kitten", "sitting", 3),
  ] {
    #expect(NearestName.distance(Array(left.utf8), Array(right.utf8)) == count, "\(left) \(right)")
    #expect(NearestName.distance(Array(right.utf8), Array(left.utf8)) == count, "\(right) \(left)")
  }
}

@Test("what was read from lines of any kind, written line by line, is read again as the same")
func randomFilesAgree() {
  let seed = UInt64.random(in: 0..<UInt64.max)
  var random = SeededRandom(seed: seed)
  let pieces: [[UInt8]] =
    ["a", "b.c", "=", "\\", "\n", "\n", "\r\n", "#", "!", " ", "\t", "é", "\u{2028}", "\u{0}"].map {
      Array($0.utf8)
    } + [[0xff], [0xc3], [0xef, 0xbb, 0xbf]]
  for _ in 0..<5000 {
    var bytes: [UInt8] = []
    for _ in 0..<Int.random(in: 0..<40, using: &random) {
      bytes += pieces[Int.random(in: 0..<pieces.count, using: &random)]
    }
    let file = ConfigurationFile(bytes, path: "f")
    let lines = bytes.count { $0 == 0x0a } + 1
    #expect(Set(file.entries.map(\.name)).count == file.entries.count, "seed \(seed): \(bytes)")
    #expect(file.entries.allSatisfy { (1...lines).contains($0.line) && !$0.name.isEmpty }, "seed \(seed): \(bytes)")
    // What a line cannot hold where it stands alone, or first.
    let entries = file.entries.filter { entry in
      !entry.value.hasSuffix("\\") && !["#", "!", "\u{feff}"].contains(entry.name.unicodeScalars.first)
    }
    let text = entries.map { "\($0.name)=\($0.value)\n" }.joined()
    let again = ConfigurationFile(Array(text.utf8), path: "f")
    #expect(again.problems.isEmpty, "seed \(seed): \(bytes)")
    #expect(
      again.entries.map { [$0.name, $0.value] } == entries.map { [$0.name, $0.value] }, "seed \(seed): \(bytes)")
  }
}
