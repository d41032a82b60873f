// JobGraph: the inputs, states and sinks of one run of a job, as its operators register them.

import MillraceBase

/// Where a job reads.
public enum JobInput: Sendable {
  /// All partitions of a topic.
  case topic(String)
  /// A source under a name that stays the same for the job's life; the closure makes it for one run.
  case source(name: String, make: @Sendable () throws(JobError) -> any ReplayableSource)

  /// Its name in the state log.
  var positionName: String {
    switch self {
    case .topic(let name): "topic:" + name
    case .source(let name, _): "source:" + name
    }
  }
}

/// Collects what the operators of one run need from the runtime.
public struct JobGraph {
  /// The inputs, in order of registration.
  public private(set) var inputs: [JobInput] = []
  /// The keyed states.
  public private(set) var tables: [KeyedTable] = []
  /// Where sinks put their records.
  public let output: StepOutput
  private var names: [UInt16: String] = [:]
  private var unnamed: [String: Int] = [:]
  private let partitionCount: (String) throws(JobError) -> Int

  init(partitionCount: @escaping (String) throws(JobError) -> Int) {
    self.partitionCount = partitionCount
    output = StepOutput()
  }

  /// Registers an input; an input of the same name is shared.
  /// - Returns: its index, as ``InputRun/input`` says it.
  public mutating func addInput(_ input: JobInput) -> Int {
    if let known = inputs.firstIndex(where: { $0.positionName == input.positionName }) { return known }
    inputs.append(input)
    return inputs.count - 1
  }

  /// The state of an operator.
  ///
  /// The operator's number in the state log comes from its name. Without a name it is `kind` and a running number among
  /// those of its kind: name operators that must find their state again after the job was changed.
  /// - Throws: `.invalidJob` when another operator has the name, or its number.
  public mutating func addTable(kind: String, name: String?) throws(JobError) -> KeyedTable {
    let ordinal = unnamed[kind, default: 0] + 1
    if name == nil { unnamed[kind] = ordinal }
    let full = name ?? "\(kind)-\(ordinal)"
    let id = JobGraph.operatorID(full)
    if let other = names[id] {
      throw JobError(
        .invalidJob,
        other == full
          ? "two operators are named \"\(full)\""
          : "the operators \"\(other)\" and \"\(full)\" share the number \(id); name one of them otherwise")
    }
    names[id] = full
    let table = KeyedTable(operatorID: id)
    tables.append(table)
    return table
  }

  /// Registers a topic that is written.
  /// - Returns: the sink's index for ``StepOutput/emit(_:key:value:timestamp:)``.
  /// - Throws: `.unknownTopic`.
  public mutating func addSink(topic: String) throws(JobError) -> Int {
    output.addSink(topic: topic, partitions: try partitionCount(topic))
  }

  /// The number of the operator named `name`: 1 to 65,535, from the stable hash. Part of the state log's format.
  public static func operatorID(_ name: String) -> UInt16 {
    let hash = Bytes(name).withBuffer { Hashing.stable($0) }
    return UInt16(hash % 65_535) + 1
  }
}
