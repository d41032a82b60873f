// ChainFigures: what a job tells about its operators, and about the partitions of its inputs.

import MillraceBase
import MillraceModel

/// A partition of an input.
public struct InputPlace: Hashable, Sendable {
  /// The topic, or the source's name.
  public var input: String
  /// Partition of the topic; 0 for a source.
  public var partition: Int32

  /// A partition of `input`.
  public init(input: String, partition: Int32) {
    self.input = input
    self.partition = partition
  }
}

/// An operator, an input or an output, as ``JobDefinition/explain()`` tells of it.
public struct OperatorLabel: Equatable, Sendable {
  /// Its number among ``JobExplanation/nodes``.
  public var number: Int
  /// ``JobExplanation/Node/kind``.
  public var kind: String
  /// ``JobExplanation/Node/name``; empty without one.
  public var name: String

  /// An operator.
  public init(number: Int, kind: String, name: String) {
    self.number = number
    self.kind = kind
    self.name = name
  }
}

/// Figures of a chain: of operators that are compiled into one loop, of all workers together and since the job was started.
///
/// Values are counted where a chain ends and the next one begins: where an input is read, where values come by key or to all workers, where
/// streams merge, where a shared stream is read, and at a sink, which is a chain of its own. So the figures are exact at a chain's ends, and say
/// nothing of what lies between them.
public struct ChainFigures: Equatable, Sendable {
  /// What it is made of, in order; at least one.
  public var operators: [OperatorLabel]
  /// Numbers of the last operators of the chains that it takes values of, in order.
  public var upstreams: [Int] = []
  /// Values come to it by key.
  public var isKeyed = false
  /// Values that came to its first operator. Of an input, its records.
  public var recordsIn: UInt64 = 0
  /// Values that its last operator has handed on, to whatever number of chains. Of a sink, values that it has taken.
  public var recordsOut: UInt64 = 0
  /// Bytes of the record batches that were read; nil for a chain that reads no input.
  public var bytesIn: UInt64?
  /// Bytes of the record batches that were written; nil for a chain that writes no topic, or one that another chain writes too.
  public var bytesOut: UInt64?
  /// Values that came too late for an operator of it.
  public var lateRecords: UInt64 = 0
  /// Values for which a function of it failed.
  public var failedRecords: UInt64 = 0
  /// Entries of its state; nil without state.
  public var stateEntries: Int?
  /// About the bytes of these entries in the state log, keys and values; nil without state.
  public var stateBytes: Int?
  /// Time that the job's threads were at work in it, and in the chains that say so in ``timedWith``; nil where ``timedWith`` is not.
  public var busy: Duration?
  /// Number of the last operator of the chain that has this one's time among its own: both are one loop. Nil for a chain with a time of its own.
  public var timedWith: Int?
  /// How far event time has come, as inputs and operators that assign times tell it, in the chain or before it; nil before that is known, and in
  /// jobs that do not use event time.
  public var watermark: Timestamp?
  /// The partition that holds that watermark back; nil when none does.
  public var watermarkHolder: InputPlace?

  /// A chain that has done nothing yet.
  public init(_ operators: [OperatorLabel]) { self.operators = operators }
}

/// Where a job stands in one partition of an input.
public struct InputFigures: Equatable, Sendable {
  /// The partition.
  public var place: InputPlace
  /// Records that the partition has beyond what was run; nil while the host has not told where it ends, and for a source.
  public var lag: Int64?
  /// By how much the newest record that was run is older than the newest of the partition, by the records' times; nil while either is not
  /// known, and for a source.
  public var timeLag: Duration?

  /// A partition of which nothing is known.
  public init(place: InputPlace) { self.place = place }
}
