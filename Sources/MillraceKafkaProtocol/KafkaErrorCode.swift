// KafkaErrorCode: the error codes of Kafka's protocol, each with its name, text and whether trying again can help.

/// An error code of Kafka's protocol. Codes that are not in the catalogue are carried unchanged.
///
/// Source: Kafka protocol, "Error Codes"; kafka-python 3.0.12, `kafka/errors.py`; librdkafka, `rdkafka.h`.
public struct KafkaErrorCode: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  /// The code on the wire.
  public let rawValue: Int16

  /// The error with this code.
  public init(rawValue: Int16) { self.rawValue = rawValue }

  /// The server met an error that it did not expect.
  public static let unknownServerError = KafkaErrorCode(rawValue: -1)
  /// No error.
  public static let none = KafkaErrorCode(rawValue: 0)
  /// The requested offset is outside the range that the server keeps.
  public static let offsetOutOfRange = KafkaErrorCode(rawValue: 1)
  /// The record batch failed its checksum, exceeds the allowed size or is malformed.
  public static let corruptMessage = KafkaErrorCode(rawValue: 2)
  /// This server does not host this topic and partition.
  public static let unknownTopicOrPartition = KafkaErrorCode(rawValue: 3)
  /// The requested fetch size is invalid.
  public static let invalidFetchSize = KafkaErrorCode(rawValue: 4)
  /// The partition has no leader at the moment.
  public static let leaderNotAvailable = KafkaErrorCode(rawValue: 5)
  /// This broker is not the partition's leader or a replica of it.
  public static let notLeaderOrFollower = KafkaErrorCode(rawValue: 6)
  /// The request took longer than its time limit.
  public static let requestTimedOut = KafkaErrorCode(rawValue: 7)
  /// The broker is not available.
  public static let brokerNotAvailable = KafkaErrorCode(rawValue: 8)
  /// The replica is not available.
  public static let replicaNotAvailable = KafkaErrorCode(rawValue: 9)
  /// The request holds a message larger than the server accepts.
  public static let messageTooLarge = KafkaErrorCode(rawValue: 10)
  /// The controller moved to another broker.
  public static let staleControllerEpoch = KafkaErrorCode(rawValue: 11)
  /// The metadata of an offset commit is too large.
  public static let offsetMetadataTooLarge = KafkaErrorCode(rawValue: 12)
  /// The connection was lost before a response was received.
  public static let networkException = KafkaErrorCode(rawValue: 13)
  /// The coordinator is loading and cannot answer yet.
  public static let coordinatorLoadInProgress = KafkaErrorCode(rawValue: 14)
  /// The coordinator is not available.
  public static let coordinatorNotAvailable = KafkaErrorCode(rawValue: 15)
  /// This broker is not the group's or transaction's coordinator.
  public static let notCoordinator = KafkaErrorCode(rawValue: 16)
  /// The topic's name is not valid, or the topic is internal.
  public static let invalidTopic = KafkaErrorCode(rawValue: 17)
  /// The batch is larger than the server's largest segment.
  public static let recordListTooLarge = KafkaErrorCode(rawValue: 18)
  /// The partition has fewer in-sync replicas than required.
  public static let notEnoughReplicas = KafkaErrorCode(rawValue: 19)
  /// The records were written to fewer in-sync replicas than required.
  public static let notEnoughReplicasAfterAppend = KafkaErrorCode(rawValue: 20)
  /// Only -1, 0 and 1 are valid required acks.
  public static let invalidRequiredAcks = KafkaErrorCode(rawValue: 21)
  /// The group generation is not the current one.
  public static let illegalGeneration = KafkaErrorCode(rawValue: 22)
  /// The member's protocol type or protocols do not fit those of the group.
  public static let inconsistentGroupProtocol = KafkaErrorCode(rawValue: 23)
  /// The group id is not valid.
  public static let invalidGroupID = KafkaErrorCode(rawValue: 24)
  /// The coordinator does not know this member.
  public static let unknownMemberID = KafkaErrorCode(rawValue: 25)
  /// The session timeout is outside the allowed range.
  public static let invalidSessionTimeout = KafkaErrorCode(rawValue: 26)
  /// The group is rebalancing; rejoin it.
  public static let rebalanceInProgress = KafkaErrorCode(rawValue: 27)
  /// The offset commit is larger than allowed.
  public static let invalidCommitOffsetSize = KafkaErrorCode(rawValue: 28)
  /// Access to the topic is denied.
  public static let topicAuthorizationFailed = KafkaErrorCode(rawValue: 29)
  /// Access to the group is denied.
  public static let groupAuthorizationFailed = KafkaErrorCode(rawValue: 30)
  /// Access to the cluster is denied.
  public static let clusterAuthorizationFailed = KafkaErrorCode(rawValue: 31)
  /// The timestamp of the message is out of acceptable range.
  public static let invalidTimestamp = KafkaErrorCode(rawValue: 32)
  /// The broker does not support the requested SASL mechanism.
  public static let unsupportedSaslMechanism = KafkaErrorCode(rawValue: 33)
  /// Request is not valid given the current SASL state.
  public static let illegalSaslState = KafkaErrorCode(rawValue: 34)
  /// The version of API is not supported.
  public static let unsupportedVersion = KafkaErrorCode(rawValue: 35)
  /// Topic with this name already exists.
  public static let topicAlreadyExists = KafkaErrorCode(rawValue: 36)
  /// Number of partitions is invalid.
  public static let invalidPartitions = KafkaErrorCode(rawValue: 37)
  /// Replication-factor is invalid.
  public static let invalidReplicationFactor = KafkaErrorCode(rawValue: 38)
  /// Replication assignment is invalid.
  public static let invalidReplicationAssignment = KafkaErrorCode(rawValue: 39)
  /// Configuration is invalid.
  public static let invalidConfig = KafkaErrorCode(rawValue: 40)
  /// This is not the correct controller for this cluster.
  public static let notController = KafkaErrorCode(rawValue: 41)
  /// The request is malformed or not meant for this broker.
  public static let invalidRequest = KafkaErrorCode(rawValue: 42)
  /// The message format version on the broker does not support this request.
  public static let unsupportedForMessageFormat = KafkaErrorCode(rawValue: 43)
  /// Request parameters do not satisfy the configured policy.
  public static let policyViolation = KafkaErrorCode(rawValue: 44)
  /// The sequence number does not follow the last one.
  public static let outOfOrderSequenceNumber = KafkaErrorCode(rawValue: 45)
  /// The sequence number was received before.
  public static let duplicateSequenceNumber = KafkaErrorCode(rawValue: 46)
  /// The producer's epoch is older than the one the broker knows.
  public static let invalidProducerEpoch = KafkaErrorCode(rawValue: 47)
  /// The producer attempted a transactional operation in an invalid state.
  public static let invalidTxnState = KafkaErrorCode(rawValue: 48)
  /// The producer attempted to use a producer id which is not currently assigned to its transactional id.
  public static let invalidProducerIDMapping = KafkaErrorCode(rawValue: 49)
  /// The transaction timeout is larger than the maximum value allowed by the broker.
  public static let invalidTransactionTimeout = KafkaErrorCode(rawValue: 50)
  /// Another operation on the same transaction is still going on.
  public static let concurrentTransactions = KafkaErrorCode(rawValue: 51)
  /// The coordinator that sent the marker is no longer the producer's.
  public static let transactionCoordinatorFenced = KafkaErrorCode(rawValue: 52)
  /// Access to the transactional id is denied.
  public static let transactionalIDAuthorizationFailed = KafkaErrorCode(rawValue: 53)
  /// Security features are disabled.
  public static let securityDisabled = KafkaErrorCode(rawValue: 54)
  /// The operation was not attempted, because another of the batch failed.
  public static let operationNotAttempted = KafkaErrorCode(rawValue: 55)
  /// Disk error when trying to access log file on the disk.
  public static let kafkaStorageError = KafkaErrorCode(rawValue: 56)
  /// The user-specified log directory is not found in the broker config.
  public static let logDirNotFound = KafkaErrorCode(rawValue: 57)
  /// SASL Authentication failed.
  public static let saslAuthenticationFailed = KafkaErrorCode(rawValue: 58)
  /// The broker has no state of this producer id.
  public static let unknownProducerID = KafkaErrorCode(rawValue: 59)
  /// A partition reassignment is in progress.
  public static let reassignmentInProgress = KafkaErrorCode(rawValue: 60)
  /// Delegation Token feature is not enabled.
  public static let delegationTokenAuthDisabled = KafkaErrorCode(rawValue: 61)
  /// Delegation Token is not found on server.
  public static let delegationTokenNotFound = KafkaErrorCode(rawValue: 62)
  /// Specified Principal is not valid Owner/Renewer.
  public static let delegationTokenOwnerMismatch = KafkaErrorCode(rawValue: 63)
  /// Delegation tokens cannot be requested on this kind of connection.
  public static let delegationTokenRequestNotAllowed = KafkaErrorCode(rawValue: 64)
  /// Delegation Token authorization failed.
  public static let delegationTokenAuthorizationFailed = KafkaErrorCode(rawValue: 65)
  /// Delegation Token is expired.
  public static let delegationTokenExpired = KafkaErrorCode(rawValue: 66)
  /// Supplied principalType is not supported.
  public static let invalidPrincipalType = KafkaErrorCode(rawValue: 67)
  /// The group is not empty.
  public static let nonEmptyGroup = KafkaErrorCode(rawValue: 68)
  /// The group id does not exist.
  public static let groupIDNotFound = KafkaErrorCode(rawValue: 69)
  /// The fetch session ID was not found.
  public static let fetchSessionIDNotFound = KafkaErrorCode(rawValue: 70)
  /// The fetch session epoch is invalid.
  public static let invalidFetchSessionEpoch = KafkaErrorCode(rawValue: 71)
  /// There is no listener on the leader broker that matches the listener on which metadata request was processed.
  public static let listenerNotFound = KafkaErrorCode(rawValue: 72)
  /// Topic deletion is disabled.
  public static let topicDeletionDisabled = KafkaErrorCode(rawValue: 73)
  /// The leader epoch in the request is older than the epoch on the broker.
  public static let fencedLeaderEpoch = KafkaErrorCode(rawValue: 74)
  /// The leader epoch in the request is newer than the epoch on the broker.
  public static let unknownLeaderEpoch = KafkaErrorCode(rawValue: 75)
  /// The requesting client does not support the compression type of given partition.
  public static let unsupportedCompressionType = KafkaErrorCode(rawValue: 76)
  /// Broker epoch has changed.
  public static let staleBrokerEpoch = KafkaErrorCode(rawValue: 77)
  /// The new leader's high watermark has not caught up yet.
  public static let offsetNotAvailable = KafkaErrorCode(rawValue: 78)
  /// The group member needs to have a valid member id before actually entering a consumer group.
  public static let memberIDRequired = KafkaErrorCode(rawValue: 79)
  /// The preferred leader was not available.
  public static let preferredLeaderNotAvailable = KafkaErrorCode(rawValue: 80)
  /// The consumer group has reached its max size.
  public static let groupMaxSizeReached = KafkaErrorCode(rawValue: 81)
  /// Another member with the same group.instance.id has taken this member's place.
  public static let fencedInstanceID = KafkaErrorCode(rawValue: 82)
  /// Eligible topic partition leaders are not available.
  public static let eligibleLeadersNotAvailable = KafkaErrorCode(rawValue: 83)
  /// Leader election not needed for topic partition.
  public static let electionNotNeeded = KafkaErrorCode(rawValue: 84)
  /// No partition reassignment is in progress.
  public static let noReassignmentInProgress = KafkaErrorCode(rawValue: 85)
  /// Deleting offsets of a topic is forbidden while the consumer group is actively subscribed to it.
  public static let groupSubscribedToTopic = KafkaErrorCode(rawValue: 86)
  /// This record has failed the validation on broker and hence will be rejected.
  public static let invalidRecord = KafkaErrorCode(rawValue: 87)
  /// There are unstable offsets that need to be cleared.
  public static let unstableOffsetCommit = KafkaErrorCode(rawValue: 88)
  /// The throttling quota has been exceeded.
  public static let throttlingQuotaExceeded = KafkaErrorCode(rawValue: 89)
  /// There is a newer producer with the same transactionalId which fences the current one.
  public static let producerFenced = KafkaErrorCode(rawValue: 90)
  /// A request illegally referred to a resource that does not exist.
  public static let resourceNotFound = KafkaErrorCode(rawValue: 91)
  /// A request illegally referred to the same resource twice.
  public static let duplicateResource = KafkaErrorCode(rawValue: 92)
  /// Requested credential would not meet criteria for acceptability.
  public static let unacceptableCredential = KafkaErrorCode(rawValue: 93)
  /// Indicates that the either the sender or recipient of a voter-only request is not one of the expected voters.
  public static let inconsistentVoterSet = KafkaErrorCode(rawValue: 94)
  /// The given update version was invalid.
  public static let invalidUpdateVersion = KafkaErrorCode(rawValue: 95)
  /// Unable to update finalized features due to an unexpected server error.
  public static let featureUpdateFailed = KafkaErrorCode(rawValue: 96)
  /// Request principal deserialization failed during forwarding.
  public static let principalDeserializationFailure = KafkaErrorCode(rawValue: 97)
  /// Requested snapshot was not found.
  public static let snapshotNotFound = KafkaErrorCode(rawValue: 98)
  /// Requested position is not greater than or equal to zero, and less than the size of the snapshot.
  public static let positionOutOfRange = KafkaErrorCode(rawValue: 99)
  /// This server does not host this topic ID.
  public static let unknownTopicID = KafkaErrorCode(rawValue: 100)
  /// This broker ID is already in use.
  public static let duplicateBrokerRegistration = KafkaErrorCode(rawValue: 101)
  /// The given broker ID was not registered.
  public static let brokerIDNotRegistered = KafkaErrorCode(rawValue: 102)
  /// The log's topic ID did not match the topic ID in the request.
  public static let inconsistentTopicID = KafkaErrorCode(rawValue: 103)
  /// The clusterId in the request does not match that found on the server.
  public static let inconsistentClusterID = KafkaErrorCode(rawValue: 104)
  /// The transactionalId could not be found.
  public static let transactionalIDNotFound = KafkaErrorCode(rawValue: 105)
  /// The fetch session encountered inconsistent topic ID usage.
  public static let fetchSessionTopicIDError = KafkaErrorCode(rawValue: 106)
  /// The new ISR contains at least one ineligible replica.
  public static let ineligibleReplica = KafkaErrorCode(rawValue: 107)
  /// The AlterPartition request successfully updated the partition state but the leader has changed.
  public static let newLeaderElected = KafkaErrorCode(rawValue: 108)
  /// The requested offset is moved to tiered storage.
  public static let offsetMovedToTieredStorage = KafkaErrorCode(rawValue: 109)
  /// The member epoch is fenced by the group coordinator.
  public static let fencedMemberEpoch = KafkaErrorCode(rawValue: 110)
  /// The instance ID is still used by another member in the consumer group.
  public static let unreleasedInstanceID = KafkaErrorCode(rawValue: 111)
  /// The assignor or its version range is not supported by the consumer group.
  public static let unsupportedAssignor = KafkaErrorCode(rawValue: 112)
  /// The member epoch is stale.
  public static let staleMemberEpoch = KafkaErrorCode(rawValue: 113)
  /// The request was sent to an endpoint of the wrong type.
  public static let mismatchedEndpointType = KafkaErrorCode(rawValue: 114)
  /// This endpoint type is not supported yet.
  public static let unsupportedEndpointType = KafkaErrorCode(rawValue: 115)
  /// This controller ID is not known.
  public static let unknownControllerID = KafkaErrorCode(rawValue: 116)
  /// Client sent a push telemetry request with an invalid or outdated subscription ID.
  public static let unknownSubscriptionID = KafkaErrorCode(rawValue: 117)
  /// Client sent a push telemetry request larger than the maximum size the broker will accept.
  public static let telemetryTooLarge = KafkaErrorCode(rawValue: 118)
  /// The controller has considered the broker registration to be invalid.
  public static let invalidRegistration = KafkaErrorCode(rawValue: 119)
  /// The server encountered an error with the transaction.
  public static let transactionAbortable = KafkaErrorCode(rawValue: 120)
  /// The record state is invalid.
  public static let invalidRecordState = KafkaErrorCode(rawValue: 121)
  /// The share session was not found.
  public static let shareSessionNotFound = KafkaErrorCode(rawValue: 122)
  /// The share session epoch is invalid.
  public static let invalidShareSessionEpoch = KafkaErrorCode(rawValue: 123)
  /// The share coordinator rejected the request because the share-group state epoch did not match.
  public static let fencedStateEpoch = KafkaErrorCode(rawValue: 124)
  /// The voter key doesn't match the receiving replica's key.
  public static let invalidVoterKey = KafkaErrorCode(rawValue: 125)
  /// The voter is already part of the set of voters.
  public static let duplicateVoter = KafkaErrorCode(rawValue: 126)
  /// The voter is not part of the set of voters.
  public static let voterNotFound = KafkaErrorCode(rawValue: 127)
  /// The regular expression is not valid.
  public static let invalidRegularExpression = KafkaErrorCode(rawValue: 128)
  /// The client's metadata is stale; it has to start from its bootstrap servers again.
  public static let rebootstrapRequired = KafkaErrorCode(rawValue: 129)
  /// The supplied topology is invalid.
  public static let streamsInvalidTopology = KafkaErrorCode(rawValue: 130)
  /// The supplied topology epoch is invalid.
  public static let streamsInvalidTopologyEpoch = KafkaErrorCode(rawValue: 131)
  /// The supplied topology epoch is outdated.
  public static let streamsTopologyFenced = KafkaErrorCode(rawValue: 132)
  /// The limit of share sessions has been reached.
  public static let shareSessionLimitReached = KafkaErrorCode(rawValue: 133)
}
