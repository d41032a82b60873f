// WorkerProtocol: what a worker of stream jobs, or an operator, says to a server on the socket in its data directory.
//
// Both sides send frames: size uint32 (of what follows), number uint32, then a request or an answer. Numbers are big endian. A
// text is a uint32 length and UTF-8, bytes are a uint32 length and bytes, a list is a uint32 count and its members.
//
// Request: kind uint8 and its fields (WorkerRequest.swift). The first one of a connection is `hello`.
// Answer:  flags uint8 (1: the connection's job is to stop), times that topics got more partitions uint64, kind uint8 and its
//          fields (WorkerAnswer.swift). It has the number of its request; answers come as they are ready, in any order.
//
// 1. Each request but a report gets one answer, unless the connection ends before.
// 2. A read is answered early, with nothing, when another one comes, or an interruption, or the job is to stop.
// 3. A connection has one job at most. Commits under any other name are refused; the broker refuses old epochs.
// 4. A commit is handed to the broker in the order of the frames, so that its answer may come after those of later reads.

import MillraceBase
import MillraceIO

/// Sizes and names that both sides know.
public enum WorkerProtocol {
  /// The socket's name in the data directory.
  public static let socketName = "jobs.sock"
  /// The one version that is spoken: others are refused in the answer to `hello`. Since 2, reports tell of operators and inputs, and
  /// what was read tells the newest time of its partition.
  public static let version: UInt16 = 2
  /// The first four bytes of `hello`.
  static let magic: UInt32 = 0x4d52_4a42
  /// Bytes that a commit's frame may have beside its batches and 64 for each of them: the names of topics.
  static let commitOverhead = 1 << 20
  /// Most bytes of a request that is no commit; a read names positions.
  static let largestRequest = 16 << 20
  /// Most bytes of a request before `hello` was accepted.
  static let largestGreeting = 1024
  /// Most bytes of an answer: a read brings one batch, however large it is.
  static let largestAnswer = 160 << 20
  /// Most bytes asked for in one read, and of state in one answer.
  static let readBytes = 4 << 20
  /// Longest that a read waits.
  static let longestWait = Duration.seconds(30)
  /// Most jobs of one answer.
  static let jobsInAnswer = 1000

  /// Where the server of a data directory listens.
  public static func address(directory: String) -> SocketAddress {
    SocketAddress(directory: directory, name: socketName)
  }

  /// A frame of what `body` writes.
  static func frame(_ number: UInt32, _ body: (inout ByteWriter) -> Void) -> [Bytes] {
    var writer = ByteWriter(capacity: 256)
    writer.uint32(0)
    writer.uint32(number)
    body(&writer)
    writer.patchInt32(Int32(writer.count - 4), at: 0)
    return writer.finish()
  }
}

extension ByteWriter {
  mutating func text(_ text: String) {
    uint32(UInt32(text.utf8.count))
    utf8(text)
  }

  mutating func bytes(_ bytes: Bytes) {
    uint32(UInt32(bytes.count))
    append(bytes)
  }

  mutating func list<Value>(_ values: [Value], _ body: (inout ByteWriter, Value) -> Void) {
    uint32(UInt32(values.count))
    for value in values { body(&self, value) }
  }
}

extension ByteReader {
  mutating func text() throws(DecodingError) -> String { try string(Int(try uint32())) }

  /// Shares the reader's memory.
  mutating func bytes() throws(DecodingError) -> Bytes { try slice(Int(try uint32())) }

  /// One byte that is 0 or 1.
  mutating func flag() throws(DecodingError) -> Bool {
    let at = position
    let value = try uint8()
    guard value <= 1 else { throw DecodingError("flag \(value)", at: at) }
    return value == 1
  }

  /// A list whose members take at least `size` bytes each: what is announced is compared with what is there.
  mutating func list<Value>(
    ofSize size: Int, _ body: (inout ByteReader) throws(DecodingError) -> Value
  ) throws(DecodingError) -> [Value] {
    let at = position
    let count = Int(try uint32())
    guard count <= remaining / size else {
      throw DecodingError("\(count) members announced, \(remaining) bytes are left", at: at)
    }
    var values: [Value] = []
    values.reserveCapacity(count)
    for _ in 0..<count { values.append(try body(&self)) }
    return values
  }

  func expectEnd() throws(DecodingError) {
    if remaining > 0 { throw DecodingError("\(remaining) bytes too many", at: position) }
  }
}
