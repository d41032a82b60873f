// BrokerError: why the broker refused a request, in terms that no protocol owns.

import MillraceLog
import MillraceSecurity

/// A refusal, with the values that led to it.
public struct BrokerError: Error, Equatable, CustomStringConvertible {
  /// The kinds that protocols translate into their own codes.
  public enum Code: Sendable, Equatable {
    case unknownTopicOrPartition
    case unknownTopicID
    case unknownQueue
    case queueTaken
    case topicExists
    case invalidTopic
    case invalidPartitions
    case invalidReplicationFactor
    case invalidReplicaAssignment
    case invalidConfig
    case invalidRequest
    case corruptBatch
    case invalidRecord
    case unsupportedBatchFormat
    case unsupportedCompression
    case messageTooLarge
    case invalidTimestamp
    case invalidTransactionState
    case invalidTransactionTimeout
    case invalidProducerMapping
    case producerFenced
    case unknownTransactionalID
    case offsetOutOfRange
    case fencedLeaderEpoch
    case unknownLeaderEpoch
    case outOfOrderSequence
    case invalidProducerEpoch
    case storage
    case stopped
    case invalidGroupID
    case unknownMember
    case illegalGeneration
    case rebalanceInProgress
    case inconsistentGroupProtocol
    case invalidSessionTimeout
    case fencedInstance
    case memberIDRequired
    case groupTooLarge
    case offsetMetadataTooLarge
    case fencedMemberEpoch
    case staleMemberEpoch
    case unreleasedInstance
    case unsupportedAssignor
    case invalidPattern
    case fencedJob
    case stoppedJob
    case unknownJob
    case policyViolation
    case unknownGroup
    case groupNotEmpty
    case groupLoading
    case groupUnavailable
    case invalidRecordState
    /// The client may not do this to a resource of this kind.
    case denied(ResourceKind)
  }

  /// The kind.
  public let code: Code
  /// The values, in words, for people.
  public let reason: String

  /// A refusal with its explanation.
  public init(_ code: Code, _ reason: String) {
    self.code = code
    self.reason = reason
  }

  /// The log's refusal as the broker's.
  public init(_ error: LogError) {
    let code: Code =
      switch error.code {
      case .unknownPartition: .unknownTopicOrPartition
      case .offsetOutOfRange: .offsetOutOfRange
      case .outOfOrderSequence: .outOfOrderSequence
      case .invalidProducerEpoch: .invalidProducerEpoch
      case .invalidTransactionState: .invalidTransactionState
      case .tooLarge: .messageTooLarge
      case .noSpace, .corruption, .io: .storage
      case .stopped: .stopped
      }
    self.init(code, error.reason)
  }

  /// Kind and explanation.
  public var description: String { "\(code): \(reason)" }
}
