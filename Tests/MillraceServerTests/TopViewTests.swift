// TopViewTests: figures as lines of a screen, whatever its size.

import MillraceBase
import MillraceIO
import Testing

@testable import MillraceServer

private func queue(_ name: String, length: Int, more: String = "") -> String {
  """
  {"name":"\(name)","length":\(length),"unacknowledged":2,"oldestAgeSeconds":75.2,"consumers":10,
   "arrivalsPerSecond":{"10s":800.04},"settlementsPerSecond":{"10s":799},"utilisation":0.8,
   "waiting":{"count":9,"mean":2050,"p99":18600},"processing":{"count":9,"mean":10000},"transfer":{"count":0,"mean":0},
   "window":{"offeredPerSecond":800,"serviceSeconds":0.01,"arrivalVariability":1,"serviceVariability":1},
   "littlesLaw":{"meanLength":9.64,"product":9.6,"departuresPerSecond":800,"verdict":"holds"},
   "model":{"meanWaitSeconds":0.00205}\(more)}
  """
}

private func figures(_ queues: [String], groups: String = "") throws -> JSONValue {
  try JSONValue(
    """
    {"uptimeSeconds":3700.5,"connections":3,"virtualHosts":[{"name":"/","queues":[\(queues.joined(separator: ","))]},
     {"name":"other","queues":[\(queue("q", length: 1))]}],
     "topics":[{"name":"t","recordsInPerSecond":{"10s":5}}],"groups":[\(groups)]}
    """)
}

private let view = TopView(server: "localhost:9092", order: .length, target: 0.001)

@Test("the figures of a queue stand under their titles")
func queueFigures() throws {
  let lines = view.lines(try figures([queue("work", length: 1234)]), problem: nil, columns: nil)
  #expect(lines[0].hasPrefix("millrace at localhost:9092  up 1 h 1 min  connections 3"))
  let titles = lines[2].split(separator: /\s\s+/).map(String.init)
  let cells = lines[3].split(separator: /\s\s+/).map(String.init)
  let row = Dictionary(uniqueKeysWithValues: zip(titles, cells))
  // 11 consumers for a mean wait of 1 ms: docs/guides/queueing.md.
  let expected = [
    "queue": "work", "length": "1,234", "unacked": "2", "oldest": "75.2 s", "consumers": "10", "in/s": "800.0",
    "out/s": "799.0", "busy": "80.0 %", "wait": "2.1 ms", "wait p99": "18.6 ms", "process": "10.0 ms", "transfer": "-",
    "L": "9.6", "λW": "9.6", "L = λW": "holds", "model's wait": "2.1 ms", "need": "11",
  ]
  #expect(row == expected)
  #expect(lines[4].hasPrefix("other: q "))
}

@Test("what is missing is a dash, and a server that is away is said so above the last figures")
func missingFigures() throws {
  let lines = view.lines(
    try JSONValue(#"{"virtualHosts":[{"name":"/","queues":[{"name":"q"}]}],"groups":[{"name":"g"}]}"#),
    problem: "gone\u{1b}",
    columns: nil)
  #expect(lines[1] == "server away, trying again: gone\\u{1b}")
  #expect(lines[3].split(separator: " ").dropFirst().allSatisfy { $0 == "-" })
  #expect(
    view.lines(nil, problem: "no", columns: nil) == ["millrace at localhost:9092", "server away, trying again: no"])
}

@Test("queues are sorted by what was asked for, groups by their lag")
func sorting() throws {
  func names(_ order: TopOrder) throws -> [String] {
    let queues = [queue("b", length: 5), queue("a", length: 5), queue("c", length: 7)]
    return TopView(server: "s", order: order, target: 1).lines(try figures(queues), problem: nil, columns: nil)
      .dropFirst(3).prefix(3).map { String($0.prefix(1)) }
  }
  #expect(try names(.length) == ["c", "a", "b"] && names(.name) == ["a", "b", "c"])
  let groups = ["x", "y", "z"].enumerated().map { index, name in
    #"{"name":"\#(name)","state":"Stable","members":2,"recordsPerSecond":{"10s":4},"topics":[{"name":"t","lag":\#(index % 2)}]}"#
  }
  let lines = view.lines(try figures([], groups: groups.joined(separator: ",")), problem: nil, columns: nil)
  #expect(lines.suffix(3).map { $0.prefix(1) } == ["y", "x", "z"])
  #expect(
    lines.suffix(3)[lines.count - 3].split(separator: /\s\s+/).map(String.init) == [
      "y", "t", "Stable", "2", "1", "5.0", "4.0",
    ])
}

@Test("every size of a screen is kept to, and rows that do not fit are counted")
func everySizeIsKept() throws {
  let queues = (0..<30).map { queue("queue-\($0)-漢字漢字漢字漢字", length: $0) }
  let groups = (0..<20).map { #"{"name":"g\#($0)","topics":[{"name":"t","lag":1}]}"# }.joined(separator: ",")
  let all = try figures(queues, groups: groups)
  for columns in [1, 2, 5, 13, 40, 79, 80, 132, 300] {
    for rows in [1, 2, 3, 4, 5, 7, 10, 24, 50, 100] {
      for problem in [nil, String(repeating: "away ", count: 40)] {
        let lines = view.lines(all, problem: problem, size: Terminal.Size(columns: columns, rows: rows))
        #expect(lines.count <= rows && lines.allSatisfy { TopTable.width($0) <= columns }, "\(columns)x\(rows)")
      }
    }
  }
  let lines = view.lines(all, problem: nil, size: Terminal.Size(columns: 80, rows: 24))
  #expect(lines.count == 24)
  // 31 queues and 20 groups in 19 lines, a third of them for groups.
  #expect(lines.contains("… 19 more") && lines.contains("… 15 more"), "\(lines)")
  #expect(!lines.contains { $0.hasPrefix("queue-0") })
}

@Test("columns are left out from the right, and the first one is cut with a mark")
func columnsAreCut() {
  let rows = [["name", "one", "two"], ["a long name indeed", "1", "2"]]
  #expect(TopTable.lines(rows, columns: nil) == ["name                one  two", "a long name indeed    1    2"])
  #expect(TopTable.lines(rows, columns: 22) == ["name          one  two", "a long name…    1    2"])
  #expect(TopTable.lines(rows, columns: 21) == ["name          one", "a long name…    1"])
  #expect(TopTable.lines(rows, columns: 5) == ["name        ", "a long name…"])
  #expect(TopTable.cut("漢字", to: 3) == "漢…" && TopTable.cut("漢字", to: 4) == "漢字" && TopTable.cut("漢字", to: 2) == "…")
  #expect(TopTable.cut("abc", to: 0) == "" && TopTable.width("e\u{301}漢") == 3)
}

@Test("durations are shown in the unit that leaves few digits")
func durations() {
  for (seconds, text) in [
    (0, "0 µs"), (0.000_012, "12 µs"), (0.0345, "34.5 ms"), (0.9999, "999.9 ms"), (75.25, "75.3 s"),
    (100, "1 min 40 s"),
    (3700, "1 h 1 min"), (200_000, "2 d 7 h"), (.infinity, "-"),
  ] {
    #expect(TopView.duration(seconds) == text)
  }
}
