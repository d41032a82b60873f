// KafkaErrorCode+Broker: the broker's refusals in Kafka's codes.

import MillraceBroker
import MillraceKafkaProtocol

extension KafkaErrorCode {
  /// The code that tells a client of `error`.
  init(_ error: BrokerError) {
    self =
      switch error.code {
      case .unknownTopicOrPartition: .unknownTopicOrPartition
      case .unknownTopicID: .unknownTopicID
      case .topicExists: .topicAlreadyExists
      case .invalidTopic: .invalidTopic
      case .invalidPartitions: .invalidPartitions
      case .invalidReplicationFactor: .invalidReplicationFactor
      case .invalidReplicaAssignment: .invalidReplicationAssignment
      case .invalidConfig: .invalidConfig
      case .invalidRequest: .invalidRequest
      case .corruptBatch: .corruptMessage
      case .invalidRecord: .invalidRecord
      case .unsupportedBatchFormat: .unsupportedForMessageFormat
      case .unsupportedCompression: .unsupportedCompressionType
      case .messageTooLarge: .messageTooLarge
      case .invalidTimestamp: .invalidTimestamp
      case .invalidTransactionState: .invalidTxnState
      case .invalidTransactionTimeout: .invalidTransactionTimeout
      case .invalidProducerMapping: .invalidProducerIDMapping
      case .producerFenced: .producerFenced
      case .unknownTransactionalID: .transactionalIDNotFound
      case .offsetOutOfRange: .offsetOutOfRange
      case .fencedLeaderEpoch: .fencedLeaderEpoch
      case .unknownLeaderEpoch: .unknownLeaderEpoch
      case .outOfOrderSequence: .outOfOrderSequenceNumber
      case .invalidProducerEpoch: .invalidProducerEpoch
      case .storage: .kafkaStorageError
      case .stopped: .notLeaderOrFollower
      case .invalidGroupID: .invalidGroupID
      case .unknownMember: .unknownMemberID
      case .illegalGeneration: .illegalGeneration
      case .rebalanceInProgress: .rebalanceInProgress
      case .inconsistentGroupProtocol: .inconsistentGroupProtocol
      case .invalidSessionTimeout: .invalidSessionTimeout
      case .fencedInstance: .fencedInstanceID
      case .memberIDRequired: .memberIDRequired
      case .groupTooLarge: .groupMaxSizeReached
      case .offsetMetadataTooLarge: .offsetMetadataTooLarge
      case .fencedMemberEpoch: .fencedMemberEpoch
      case .staleMemberEpoch: .staleMemberEpoch
      case .unreleasedInstance: .unreleasedInstanceID
      case .unsupportedAssignor: .unsupportedAssignor
      case .invalidPattern: .invalidRegularExpression
      case .fencedJob, .stoppedJob, .unknownJob, .unknownQueue, .queueTaken: .invalidRequest
      case .policyViolation: .policyViolation
      case .unknownGroup: .groupIDNotFound
      case .groupNotEmpty: .nonEmptyGroup
      case .groupLoading: .coordinatorLoadInProgress
      case .groupUnavailable: .coordinatorNotAvailable
      case .invalidRecordState: .invalidRecordState
      case .denied(let kind): KafkaErrorCode(denied: kind)
      }
  }

  /// The code for a group request: a coordinator that stops asks its members to look for it again.
  init(group error: BrokerError) {
    self = error.code == .stopped ? .coordinatorNotAvailable : KafkaErrorCode(error)
  }
}

/// Collects answers that come in any order and calls back when all are there.
final class Gathering<Part> {
  private var parts: [Part?]
  private var missing: Int
  private let completion: ([Part]) -> Void

  /// Waits for `count` parts; with none, calls back at once.
  init(_ count: Int, _ completion: @escaping ([Part]) -> Void) {
    parts = Array(repeating: nil, count: count)
    missing = count
    self.completion = completion
    if count == 0 { completion([]) }
  }

  /// Takes the part with this index, once.
  func put(_ index: Int, _ part: Part) {
    precondition(parts[index] == nil, "part \(index) came twice")
    parts[index] = part
    missing -= 1
    if missing == 0 { completion(parts.compactMap { $0 }) }
  }
}
