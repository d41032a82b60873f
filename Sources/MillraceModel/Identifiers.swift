// Identifiers: the names by which topics, partitions and producers are known.

import MillraceBase

/// Position of a record in its partition; the first is 0, and there are no gaps.
public typealias Offset = Int64

/// A topic's 128-bit identity: stable over restarts, new when a topic is deleted and created again.
public struct TopicID: Hashable, Sendable, CustomStringConvertible {
  /// The first eight bytes, big endian.
  public let high: UInt64
  /// The last eight bytes, big endian.
  public let low: UInt64

  /// An identity from its two halves.
  public init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// The identity that stands for none.
  public static let zero = TopicID(high: 0, low: 0)

  /// A random identity of version 4. Source: RFC 9562, section 5.4.
  public static func random(using random: inout some RandomNumberGenerator) -> TopicID {
    TopicID(
      high: random.next() & 0xffff_ffff_ffff_0fff | 0x4000,
      low: random.next() & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000)
  }

  /// URL-safe base 64 without padding, 22 characters, as Kafka's tools print it.
  public var description: String {
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    var out = ""
    var bits: UInt64 = 0
    var held = 0
    for half in [high, low] {
      for shift in stride(from: 56, through: 0, by: -8) {
        bits = bits << 8 | (half >> UInt64(shift)) & 0xff
        held += 8
        while held >= 6 {
          held -= 6
          out.append(alphabet[Int((bits >> UInt64(held)) & 63)])
        }
      }
    }
    out.append(alphabet[Int((bits << UInt64(6 - held)) & 63)])
    return out
  }
}

/// A topic's name and the index of one of its partitions.
public struct TopicPartition: Hashable, Sendable, CustomStringConvertible {
  /// Topic name.
  public var topic: String
  /// Index, from 0.
  public var partition: Int32

  /// The partition `partition` of `topic`.
  public init(_ topic: String, _ partition: Int32) {
    self.topic = topic
    self.partition = partition
  }

  /// `topic-partition`.
  public var description: String { "\(topic)-\(partition)" }
}

/// The number under which the log knows a partition: given once, never again.
public struct PartitionLogID: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// The number, from 1.
  public let number: Int64
  /// The log with this number.
  public init(_ number: Int64) { self.number = number }
  /// Order of creation.
  public static func < (left: PartitionLogID, right: PartitionLogID) -> Bool { left.number < right.number }
  /// The number.
  public var description: String { String(number) }
}

/// Topic names that Kafka's clients and brokers accept. Source: Kafka, `Topic.validate`.
public enum TopicName {
  /// Longest name in characters.
  public static let maximumLength = 249

  /// What is wrong with `name`, or nil when it is a valid topic name.
  public static func problem(_ name: String) -> String? {
    if name.isEmpty { return "topic name is empty" }
    if name == "." || name == ".." { return "topic name must not be \"\(name)\"" }
    if name.utf8.count > maximumLength {
      return "topic name of \(name.utf8.count) characters is longer than \(maximumLength)"
    }
    for byte in name.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
        continue
      default:
        return "topic name may hold only letters, digits, '.', '_' and '-'"
      }
    }
    return nil
  }
}

/// A partition by its topic's identity.
public struct TopicIDPartition: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// The topic.
  public var topic: TopicID
  /// Index, from 0.
  public var partition: Int32

  /// Partition `partition` of `topic`.
  public init(_ topic: TopicID, _ partition: Int32) {
    self.topic = topic
    self.partition = partition
  }

  /// By topic, then by partition.
  public static func < (left: TopicIDPartition, right: TopicIDPartition) -> Bool {
    (left.topic.high, left.topic.low, left.partition) < (right.topic.high, right.topic.low, right.partition)
  }

  /// `topic-partition`
  public var description: String { "\(topic)-\(partition)" }
}
