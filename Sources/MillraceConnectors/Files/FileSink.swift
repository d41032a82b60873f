// FileSink: values as lines of files, each exactly once.

import MillraceBase
import MillraceDataflow
import MillraceIO
import MillraceStreams

/// Writes each value as a line of a file. A file is visible once the commit of the step that ended it is durable, and
/// never twice.
public struct FileSink<Input>: RecordSink {
  /// Makes what turns values into lines, for one run.
  typealias MakeText =
    @Sendable () throws(JobError) -> (header: String?, text: (Input, (UnsafeRawBufferPointer) -> Void) -> Void)

  /// One run's.
  ///
  /// Safety: `@unchecked Sendable` because it belongs to the job's worker thread.
  private final class Bound: @unchecked Sendable {
    let writer: FileSinkWriter
    let text: (Input, (UnsafeRawBufferPointer) -> Void) -> Void
    init(_ writer: FileSinkWriter, _ text: @escaping (Input, (UnsafeRawBufferPointer) -> Void) -> Void) {
      self.writer = writer
      self.text = text
    }
  }

  private let names: PartNames
  private let options: FileSinkOptions
  private let makeText: MakeText
  private let run: Bound?

  init(_ names: PartNames, _ options: FileSinkOptions, _ makeText: @escaping MakeText) {
    self.init(names, options, makeText, nil)
  }

  private init(_ names: PartNames, _ options: FileSinkOptions, _ makeText: @escaping MakeText, _ run: Bound?) {
    self.names = names
    self.options = options
    self.makeText = makeText
    self.run = run
  }

  /// A copy that takes part in the job's commits.
  /// - Throws: `.invalidJob` when the format cannot hold such records, or two sinks write the same files.
  public func bound(to graph: inout JobGraph) throws(JobError) -> FileSink {
    let (header, text) = try makeText()
    let writer = try graph.addParticipant(kind: "files", name: "files:" + names.visible(0)) {
      FileSinkWriter(
        names: names, rolling: options.rolling, header: header, in: options.fileSystem, clock: options.clock)
    }
    return FileSink(names, options, makeText, Bound(writer, text))
  }

  /// Adds a line.
  public func receive(_ input: Input, _ time: Timestamp) {
    guard let run else { preconditionFailure("the sink into \(names.directory) is not bound to a job") }
    run.text(input) { run.writer.append($0) }
  }
}

/// How a file sink works.
public struct FileSinkOptions: Sendable {
  /// When a file ends.
  public var rolling: FileRolling
  /// Where the files are.
  public var fileSystem: any FileSystem
  /// What tells how old a file is.
  public var clock: @Sendable () -> MonotonicTime

  /// Files of this machine that end as `rolling` says.
  public init(
    rolling: FileRolling = FileRolling(), in fileSystem: any FileSystem = LinuxFileSystem(),
    clock: @escaping @Sendable () -> MonotonicTime = { .now }
  ) {
    self.rolling = rolling
    self.fileSystem = fileSystem
    self.clock = clock
  }
}

extension DataStream where Source.Output: TypedRecord {
  /// Writes each struct as a line of JSON, or a row of CSV below a header, into files `PREFIX-NUMBER.jsonl` or `.csv`.
  ///
  /// A file appears once the commit of the step that ended it is durable, whole, and never twice: hidden files, whose
  /// names begin with `.PREFIX-`, are the sink's own. Numbers have no gaps. A rename is not undone by a crash, so a
  /// reader may take files away at any time.
  ///
  /// - Parameters:
  ///   - directory: made when it is missing. Directory and prefix own the sink's state: no other sink may write there.
  ///   - prefix: of the names, without a slash.
  ///   - options: when a file ends.
  public func to(
    directory: String, as format: TextFormat, prefix: String = "part", _ options: FileSinkOptions = FileSinkOptions()
  ) -> StreamOutput {
    let names = PartNames(directory: directory, prefix: prefix, suffix: format.isJSON ? "jsonl" : "csv")
    return StreamOutput(
      Pipeline(
        flow,
        into: FileSink<Source.Output>(names, options) { () throws(JobError) in
          let encoder = try RecordEncoder<Source.Output>(format)
          return (encoder.header, { encoder.withText(of: $0, $1) })
        }))
  }
}

extension DataStream where Source.Output: BytesRepresentable {
  /// Writes each value's text as a line into files `PREFIX-NUMBER.txt`; see `to(directory:as:)`. A value with a line
  /// break is two lines.
  public func toLines(
    directory: String, prefix: String = "part", _ options: FileSinkOptions = FileSinkOptions()
  ) -> StreamOutput {
    let names = PartNames(directory: directory, prefix: prefix, suffix: "txt")
    return StreamOutput(
      Pipeline(
        flow,
        into: FileSink<Source.Output>(names, options) { () throws(JobError) in
          (nil, { value, body in value.withBytes(body) })
        }))
  }
}
