// ScratchStateFileTests: files of state that nothing is left of.

import Glibc
import MillraceBase
import MillraceDataflow
import MillraceIO
import Testing

@testable import MillraceConnectors

@Suite struct ScratchStateFileTests {
  /// A directory that is not there yet.
  private let directory = "/tmp/millrace-state-\(getpid())-\(UInt64.random(in: 0 ... .max))"

  @Test("a file of state is read at any place, has no name, and says where something is missing")
  func file() throws {
    let fileSystem = LinuxFileSystem()
    defer { rmdir(directory) }
    let file = try ScratchStateFile(in: directory)
    #expect(try fileSystem.list(directory).isEmpty)
    let parts = [Bytes("state "), Bytes("of a "), Bytes("job")]
    for part in parts { try part.withBuffer { (bytes) throws(JobError) in try file.append(bytes) } }
    func read(_ count: Int, at position: Int) throws -> String {
      let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 1)
      defer { memory.deallocate() }
      try file.read(at: position, into: memory)
      return String(decoding: memory, as: UTF8.self)
    }
    #expect(try read(14, at: 0) == "state of a job")
    #expect(try read(4, at: 6) == "of a")
    let error = #expect(throws: JobError.self) { try read(4, at: 12) }
    #expect(error?.code == .stateFileFailed)
    #expect(error?.reason.contains("4 bytes were written at 12, 2 are there") == true, "\(error?.reason ?? "")")
  }

  @Test("where no file can be made, the error names the place")
  func noPlace() throws {
    let error = #expect(throws: JobError.self) { try ScratchStateFile(in: "/proc/millrace") }
    #expect(
      error?.code == .stateFileFailed && error?.reason.contains("/proc/millrace") == true, "\(error?.reason ?? "")")
  }
}
