// FileSourceTests: files are read line by line, and again from any position, over a file system in memory.

import MillraceBase
import MillraceConnectors
import MillraceDataflow
import MillraceIO
import MillraceModel
import Testing

private final class MemoryFile: File {
  let path: String
  let contents: Bytes
  init(_ path: String, _ contents: Bytes) {
    self.path = path
    self.contents = contents
  }
  func size() throws(IOError) -> Int64 { Int64(contents.count) }
  func read(into buffer: UnsafeMutableRawBufferPointer, at position: Int64) throws(IOError) -> Int {
    let from = min(Int(position), contents.count)
    let count = min(buffer.count, contents.count - from)
    contents.withBuffer { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[from..<(from + count)])) }
    return count
  }
  private var refusal: IOError { IOError(.unsupported, operation: "write", subject: path, reason: "read only") }
  func write(_ buffer: UnsafeRawBufferPointer, at position: Int64) throws(IOError) { throw refusal }
  func flush() throws(IOError) { throw refusal }
  func resize(_ size: Int64) throws(IOError) { throw refusal }
  func close() {}
}

private final class MemoryFiles: FileSystem {
  let files: [String: Bytes]
  init(_ files: [String: Bytes]) { self.files = files }
  private func refusal(_ path: String) -> IOError {
    IOError(.unsupported, operation: "change", subject: path, reason: "read only")
  }
  func open(_ path: String, _ options: OpenOptions) throws(IOError) -> any File {
    guard let contents = files[path] else {
      throw IOError(.notFound, operation: "open", subject: path, reason: "no such file")
    }
    return MemoryFile(path, contents)
  }
  func list(_ directory: String) throws(IOError) -> [String] {
    let inside = files.keys.filter { $0.hasPrefix(directory + "/") }
    guard !inside.isEmpty else { throw refusal(directory) }
    return Array(Set(inside.map { String($0.dropFirst(directory.count + 1).prefix { $0 != "/" }) }))
  }
  func exists(_ path: String) throws(IOError) -> Bool {
    files.keys.contains { $0 == path || $0.hasPrefix(path + "/") }
  }
  func createDirectory(_ path: String) throws(IOError) { throw refusal(path) }
  func rename(_ from: String, to: String) throws(IOError) { throw refusal(from) }
  func remove(_ path: String) throws(IOError) { throw refusal(path) }
  func syncDirectory(_ path: String) throws(IOError) { throw refusal(path) }
  func lock(_ path: String) throws(IOError) -> any FileLock { throw refusal(path) }
  func availableBytes(_ path: String) throws(IOError) -> Int64 { 0 }
  func totalBytes(_ path: String) throws(IOError) -> Int64 { 0 }
}

private func values(_ batch: Bytes?) throws -> [Bytes] {
  guard let batch else { return [] }
  let header = try RecordBatchHeader.checked(batch)
  return try RecordReader.records(batch[RecordBatchHeader.size..<header.totalSize], header: header).compactMap(\.value)
}

/// Everything that a source gives from `position` on, with the position behind each batch.
private func readAll(
  _ files: [String], _ system: MemoryFiles, from position: Bytes? = nil, maxBytes: Int
) throws -> [(lines: [Bytes], position: Bytes)] {
  let source = FileSource(files: files, in: system)
  try source.restore(position)
  var out: [(lines: [Bytes], position: Bytes)] = []
  while true {
    let got = try source.next(maxBytes: maxBytes)
    out.append((try values(got.batch), got.position))
    if got.isFinished { return out }
  }
}

@Test("lines of text files come in order; binary files, compressed files and missing files are passed over")
func textFilesOnly() throws {
  let system = MemoryFiles([
    "/a/one": Bytes("first\n\nthird"), "/a/two.gz": Bytes("no\n"), "/a/b/three": Bytes([110, 0, 10]),
    "/a/b/four": Bytes("last\r\n"), "/a/empty": Bytes(),
  ])
  let files = try FileSource.files(under: ["/a"], in: system)
  #expect(files == ["/a/b/four", "/a/b/three", "/a/empty", "/a/one", "/a/two.gz"])
  let lines = try readAll(files + ["/gone"], system, maxBytes: 1 << 20).flatMap(\.lines).map(\.text)
  #expect(lines == ["last\r", "first", "", "third"])
  #expect(throws: IOError.self) { _ = try FileSource.files(under: ["/nowhere"], in: system) }
}

@Test("recovers: from every position a source goes on with exactly the lines that followed")
func everyPositionGoesOn() throws {
  var random = SeededRandom(seed: 11)
  var contents: [String: Bytes] = [:]
  for file in 0..<5 {
    let lines = (0..<Int.random(in: 0...300, using: &random)).map {
      "\(file):\($0) " + String(repeating: "x", count: $0)
    }
    contents["/f\(file)"] = Bytes(lines.joined(separator: "\n") + (random.oneIn(2) ? "\n" : ""))
  }
  let system = MemoryFiles(contents)
  let files = contents.keys.sorted()
  let whole = try readAll(files, system, maxBytes: 1 << 30).flatMap(\.lines)
  let pieces = try readAll(files, system, maxBytes: 700)
  #expect(pieces.count > 20)
  #expect(pieces.flatMap(\.lines) == whole)
  var seen = 0
  for piece in pieces {
    seen += piece.lines.count
    let rest = try readAll(files, system, from: piece.position, maxBytes: 1 << 30).flatMap(\.lines)
    #expect(rest == Array(whole[seen...]))
  }
}

@Test("a line beyond 64 KiB is cut at a space, or between characters, and nothing of it is lost")
func longLinesAreCut() throws {
  let words = String(repeating: "word ", count: 40_000)
  let solid = String(repeating: "é", count: 100_000)
  let system = MemoryFiles(["/long": Bytes(words + "\nx" + solid + "\nend")])
  let lines = try readAll(["/long"], system, maxBytes: 1 << 30).flatMap(\.lines)
  #expect(lines.allSatisfy { $0.count <= FileSource.lineLimit })
  #expect(lines.map(\.text).joined() == words + "x" + solid + "end")
  #expect(lines.allSatisfy { !$0.text.contains("\u{fffd}") })
  #expect(lines.last?.text == "end")
}

@Test("a repeating source begins again, and ends when there is nothing to repeat")
func repeatingSource() throws {
  let system = MemoryFiles(["/a": Bytes("1\n2\n")])
  let source = FileSource(files: ["/a"], in: system, repeats: true)
  var lines: [String] = []
  while lines.count < 7 { lines += try values(try source.next(maxBytes: 1).batch).map(\.text) }
  #expect(lines == ["1", "2", "1", "2", "1", "2", "1"])
  let nothing = FileSource(files: ["/gone"], in: system, repeats: true)
  #expect(try nothing.next(maxBytes: 1).isFinished)
}

@Test("a position whose file is gone from the list is refused with its path; a moved file is found")
func positionsFindTheirFile() throws {
  let system = MemoryFiles(["/a": Bytes("1\n2\n"), "/b": Bytes("3\n")])
  let source = FileSource(files: ["/a"], in: system)
  let position = try source.next(maxBytes: 1).position
  let moved = FileSource(files: ["/b", "/a"], in: system)
  try moved.restore(position)
  #expect(try values(try moved.next(maxBytes: 1).batch).map(\.text) == ["2"])
  let error = #expect(throws: JobError.self) { try FileSource(files: ["/b"], in: system).restore(position) }
  #expect(error?.reason.contains("/a") == true)
  #expect(throws: JobError.self) { try source.restore(Bytes([1, 2])) }
}

@Test("a list that was read to its end and is longer now goes on with what came behind it, and reads nothing twice")
func longerListGoesOn() throws {
  let system = MemoryFiles(["/a": Bytes("1\n"), "/b": Bytes("2\n"), "/c": Bytes("3\n"), "/d": Bytes("4\n")])
  let end = try #require(try readAll(["/b", "/c"], system, maxBytes: 1 << 20).last?.position)
  func rest(_ files: [String]) throws -> [String] {
    try readAll(files, system, from: end, maxBytes: 1 << 20).flatMap(\.lines).map(\.text)
  }
  #expect(try rest(["/b", "/c", "/d"]) == ["4"])
  #expect(try rest(["/b", "/c"]) == [])
  // What was put in before the end is not read: whether it was is not known.
  #expect(try rest(["/a", "/b", "/c"]) == [])
  // The file at the end is gone: where to go on is not known.
  #expect(try rest(["/b", "/d"]) == [])
}
