// NexmarkSourceTests: a job reads every event once, from any position on, however many sources share them.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceNexmark
import Testing

private let range: Range<Int64> = 95..<1095

private struct Given {
  var values: [Bytes] = []
  /// Positions behind each call, with how many records had been given by then.
  var positions: [(Bytes, Int)] = []
}

private func readAll(
  _ events: Range<Int64>, _ share: NexmarkShare = .whole, from position: Bytes? = nil, maxBytes: Int = 3000
) throws -> Given {
  let generator = NexmarkGenerator(rate: 300)
  let source = NexmarkSource(generator, events: events, share: share)
  try source.restore(position)
  var given = Given()
  while true {
    let got = try source.next(maxBytes: maxBytes)
    for record in try got.batch.map(records) ?? [] {
      let value = try #require(record.value)
      #expect(record.key == nil && record.headers.isEmpty)
      #expect(record.timestamp == (try decoded(value)).dateTime)
      given.values.append(value)
    }
    given.positions.append((got.position, given.values.count))
    if got.isFinished { return given }
  }
}

private func expected(_ numbers: some Sequence<Int64>) -> [Bytes] {
  numbers.map { encoded($0, by: NexmarkGenerator(rate: 300)) }
}

@Test("a source gives the events of its range in order, in batches of about the size asked for")
func givesRange() throws {
  let given = try readAll(range)
  #expect(given.values == expected(range))
  #expect(given.positions.count > 50)
  #expect(try readAll(range, maxBytes: 1).positions.count == 1000)
  #expect(try readAll(range, maxBytes: 1 << 20).positions.count == 1)
  let nothing = try readAll(5..<5)
  #expect(nothing.values.isEmpty && nothing.positions.count == 1)
}

@Test(
  "the position is the number of the next event, and from each a new source gives what followed",
  arguments: [
    .whole, NexmarkShare(1, of: 3, .strided), NexmarkShare(2, of: 3, .contiguous), NexmarkShare(6, of: 7, .strided),
  ])
func continues(_ share: NexmarkShare) throws {
  let given = try readAll(range, share)
  for (position, count) in given.positions {
    let rest = try readAll(range, share, from: position, maxBytes: 2000)
    #expect(rest.values == Array(given.values[count...]))
  }
  if share == .whole {
    for (position, count) in given.positions {
      var reader = ByteReader(position)
      #expect(try reader.int64() == range.lowerBound + Int64(count))
    }
  }
}

@Test(
  "shares give each event once", arguments: [1, 2, 3, 7, 50, 999, 1001], [NexmarkShare.Division.strided, .contiguous])
func sharesAreDisjoint(_ count: Int, _ division: NexmarkShare.Division) throws {
  var all: [Bytes] = []
  for index in 0..<count {
    let numbers: [Int64]
    switch division {
    case .strided: numbers = Array(stride(from: range.lowerBound + Int64(index), to: range.upperBound, by: count))
    case .contiguous:
      let end = all.count + range.count / count + (index < range.count % count ? 1 : 0)
      numbers = (all.count..<end).map { range.lowerBound + Int64($0) }
    }
    let given = try readAll(range, NexmarkShare(index, of: count, division), maxBytes: 1 << 20)
    #expect(given.values == expected(numbers), "share \(index) of \(count)")
    all += given.values
  }
  #expect(all.count == range.count)
  #expect(Set(all.map(\.array)).count == range.count)
}

@Test("a position that the source does not come by is refused")
func refusesPositions() throws {
  func position(_ number: Int64, _ more: [UInt8] = []) -> Bytes {
    Bytes(withUnsafeBytes(of: number.bigEndian) { Array($0) } + more)
  }
  func isRefused(_ position: Bytes, _ events: Range<Int64> = range, _ share: NexmarkShare = .whole) -> Bool {
    do {
      try NexmarkSource(NexmarkGenerator(), events: events, share: share).restore(position)
      return false
    } catch {
      #expect(error.code == .sourceFailed)
      return true
    }
  }
  for number in [Int64.min, -1, 0, 94, 1096, .max] { #expect(isRefused(position(number)), "\(number)") }
  for number in [95, 96, 1095] as [Int64] { #expect(!isRefused(position(number)), "\(number)") }
  #expect(isRefused(Bytes()) && isRefused(position(100, [0])) && isRefused(Bytes([0, 0, 1])))
  // 96, 103, … 1090, and 1097 behind the end.
  let share = NexmarkShare(1, of: 7)
  for number in [95, 97, 1089, 1091, 1095, 1104] as [Int64] { #expect(isRefused(position(number), range, share)) }
  for number in [96, 103, 1090, 1097] as [Int64] { #expect(!isRefused(position(number), range, share)) }
  // 429 … 761, and the end.
  let block = NexmarkShare(1, of: 3, .contiguous)
  for number in [428, 763] as [Int64] { #expect(isRefused(position(number), range, block)) }
  for number in [429, 762] as [Int64] { #expect(!isRefused(position(number), range, block)) }
  #expect(isRefused(position(6), 5..<5) && !isRefused(position(5), 5..<5))
}
