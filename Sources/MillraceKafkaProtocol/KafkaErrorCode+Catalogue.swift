// KafkaErrorCode+Catalogue: what is known about each error code.

extension KafkaErrorCode {
  /// What Kafka says about one code.
  public struct Entry: Sendable {
    /// The code.
    public let code: KafkaErrorCode
    /// Kafka's name, such as `UNKNOWN_TOPIC_OR_PARTITION`.
    public let name: String
    /// Whether the same request may succeed later.
    public let isRetriable: Bool
    /// One sentence for people.
    public let text: String

    fileprivate init(_ code: Int16, _ name: String, retriable: Bool = false, _ text: String) {
      self.code = KafkaErrorCode(rawValue: code)
      self.name = name
      isRetriable = retriable
      self.text = text
    }
  }

  /// All codes in the catalogue, by rising code, from -1 without gaps.
  public static let catalogue: [Entry] = [
    Entry(-1, "UNKNOWN_SERVER_ERROR", "The server met an error that it did not expect."),
    Entry(0, "NONE", "No error."),
    Entry(1, "OFFSET_OUT_OF_RANGE", "The requested offset is outside the range that the server keeps."),
    Entry(
      2, "CORRUPT_MESSAGE", retriable: true,
      "The record batch failed its checksum, exceeds the allowed size or is malformed."),
    Entry(3, "UNKNOWN_TOPIC_OR_PARTITION", retriable: true, "This server does not host this topic and partition."),
    Entry(4, "INVALID_FETCH_SIZE", "The requested fetch size is invalid."),
    Entry(5, "LEADER_NOT_AVAILABLE", retriable: true, "The partition has no leader at the moment."),
    Entry(
      6, "NOT_LEADER_OR_FOLLOWER", retriable: true,
      "This broker is not the partition's leader or a replica of it."),
    Entry(7, "REQUEST_TIMED_OUT", retriable: true, "The request took longer than its time limit."),
    Entry(8, "BROKER_NOT_AVAILABLE", "The broker is not available."),
    Entry(9, "REPLICA_NOT_AVAILABLE", retriable: true, "The replica is not available."),
    Entry(10, "MESSAGE_TOO_LARGE", "The request holds a message larger than the server accepts."),
    Entry(11, "STALE_CONTROLLER_EPOCH", "The controller moved to another broker."),
    Entry(12, "OFFSET_METADATA_TOO_LARGE", "The metadata of an offset commit is too large."),
    Entry(13, "NETWORK_EXCEPTION", retriable: true, "The connection was lost before a response was received."),
    Entry(14, "COORDINATOR_LOAD_IN_PROGRESS", retriable: true, "The coordinator is loading and cannot answer yet."),
    Entry(15, "COORDINATOR_NOT_AVAILABLE", retriable: true, "The coordinator is not available."),
    Entry(16, "NOT_COORDINATOR", retriable: true, "This broker is not the group's or transaction's coordinator."),
    Entry(17, "INVALID_TOPIC_EXCEPTION", "The topic's name is not valid, or the topic is internal."),
    Entry(18, "RECORD_LIST_TOO_LARGE", "The batch is larger than the server's largest segment."),
    Entry(19, "NOT_ENOUGH_REPLICAS", retriable: true, "The partition has fewer in-sync replicas than required."),
    Entry(
      20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", retriable: true,
      "The records were written to fewer in-sync replicas than required."),
    Entry(21, "INVALID_REQUIRED_ACKS", "Only -1, 0 and 1 are valid required acks."),
    Entry(22, "ILLEGAL_GENERATION", "The group generation is not the current one."),
    Entry(23, "INCONSISTENT_GROUP_PROTOCOL", "The member's protocol type or protocols do not fit those of the group."),
    Entry(24, "INVALID_GROUP_ID", "The group id is not valid."),
    Entry(25, "UNKNOWN_MEMBER_ID", "The coordinator does not know this member."),
    Entry(26, "INVALID_SESSION_TIMEOUT", "The session timeout is outside the allowed range."),
    Entry(27, "REBALANCE_IN_PROGRESS", "The group is rebalancing; rejoin it."),
    Entry(28, "INVALID_COMMIT_OFFSET_SIZE", "The offset commit is larger than allowed."),
    Entry(29, "TOPIC_AUTHORIZATION_FAILED", "Access to the topic is denied."),
    Entry(30, "GROUP_AUTHORIZATION_FAILED", "Access to the group is denied."),
    Entry(31, "CLUSTER_AUTHORIZATION_FAILED", "Access to the cluster is denied."),
    Entry(32, "INVALID_TIMESTAMP", "The timestamp of the message is out of acceptable range."),
    Entry(33, "UNSUPPORTED_SASL_MECHANISM", "The broker does not support the requested SASL mechanism."),
    Entry(34, "ILLEGAL_SASL_STATE", "Request is not valid given the current SASL state."),
    Entry(35, "UNSUPPORTED_VERSION", "The version of API is not supported."),
    Entry(36, "TOPIC_ALREADY_EXISTS", "Topic with this name already exists."),
    Entry(37, "INVALID_PARTITIONS", "Number of partitions is invalid."),
    Entry(38, "INVALID_REPLICATION_FACTOR", "Replication-factor is invalid."),
    Entry(39, "INVALID_REPLICATION_ASSIGNMENT", "Replication assignment is invalid."),
    Entry(40, "INVALID_CONFIG", "Configuration is invalid."),
    Entry(41, "NOT_CONTROLLER", retriable: true, "This is not the correct controller for this cluster."),
    Entry(42, "INVALID_REQUEST", "The request is malformed or not meant for this broker."),
    Entry(
      43, "UNSUPPORTED_FOR_MESSAGE_FORMAT",
      "The message format version on the broker does not support this request."),
    Entry(44, "POLICY_VIOLATION", "Request parameters do not satisfy the configured policy."),
    Entry(45, "OUT_OF_ORDER_SEQUENCE_NUMBER", "The sequence number does not follow the last one."),
    Entry(46, "DUPLICATE_SEQUENCE_NUMBER", "The sequence number was received before."),
    Entry(47, "INVALID_PRODUCER_EPOCH", "The producer's epoch is older than the one the broker knows."),
    Entry(48, "INVALID_TXN_STATE", "The producer attempted a transactional operation in an invalid state."),
    Entry(
      49, "INVALID_PRODUCER_ID_MAPPING",
      "The producer attempted to use a producer id which is not currently assigned to its transactional id."),
    Entry(
      50, "INVALID_TRANSACTION_TIMEOUT",
      "The transaction timeout is larger than the maximum value allowed by the broker."),
    Entry(
      51, "CONCURRENT_TRANSACTIONS", retriable: true,
      "Another operation on the same transaction is still going on."),
    Entry(52, "TRANSACTION_COORDINATOR_FENCED", "The coordinator that sent the marker is no longer the producer's."),
    Entry(53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "Access to the transactional id is denied."),
    Entry(54, "SECURITY_DISABLED", "Security features are disabled."),
    Entry(55, "OPERATION_NOT_ATTEMPTED", "The operation was not attempted, because another of the batch failed."),
    Entry(56, "KAFKA_STORAGE_ERROR", retriable: true, "Disk error when trying to access log file on the disk."),
    Entry(57, "LOG_DIR_NOT_FOUND", "The user-specified log directory is not found in the broker config."),
    Entry(58, "SASL_AUTHENTICATION_FAILED", "SASL Authentication failed."),
    Entry(59, "UNKNOWN_PRODUCER_ID", "The broker has no state of this producer id."),
    Entry(60, "REASSIGNMENT_IN_PROGRESS", "A partition reassignment is in progress."),
    Entry(61, "DELEGATION_TOKEN_AUTH_DISABLED", "Delegation Token feature is not enabled."),
    Entry(62, "DELEGATION_TOKEN_NOT_FOUND", "Delegation Token is not found on server."),
    Entry(63, "DELEGATION_TOKEN_OWNER_MISMATCH", "Specified Principal is not valid Owner/Renewer."),
    Entry(
      64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED",
      "Delegation tokens cannot be requested on this kind of connection."),
    Entry(65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", "Delegation Token authorization failed."),
    Entry(66, "DELEGATION_TOKEN_EXPIRED", "Delegation Token is expired."),
    Entry(67, "INVALID_PRINCIPAL_TYPE", "Supplied principalType is not supported."),
    Entry(68, "NON_EMPTY_GROUP", "The group is not empty."),
    Entry(69, "GROUP_ID_NOT_FOUND", "The group id does not exist."),
    Entry(70, "FETCH_SESSION_ID_NOT_FOUND", retriable: true, "The fetch session ID was not found."),
    Entry(71, "INVALID_FETCH_SESSION_EPOCH", retriable: true, "The fetch session epoch is invalid."),
    Entry(
      72, "LISTENER_NOT_FOUND", retriable: true,
      "There is no listener on the leader broker that matches the listener on which metadata request was processed."),
    Entry(73, "TOPIC_DELETION_DISABLED", "Topic deletion is disabled."),
    Entry(
      74, "FENCED_LEADER_EPOCH", retriable: true,
      "The leader epoch in the request is older than the epoch on the broker."),
    Entry(
      75, "UNKNOWN_LEADER_EPOCH", retriable: true,
      "The leader epoch in the request is newer than the epoch on the broker."),
    Entry(
      76, "UNSUPPORTED_COMPRESSION_TYPE",
      "The requesting client does not support the compression type of given partition."),
    Entry(77, "STALE_BROKER_EPOCH", "Broker epoch has changed."),
    Entry(78, "OFFSET_NOT_AVAILABLE", retriable: true, "The new leader's high watermark has not caught up yet."),
    Entry(
      79, "MEMBER_ID_REQUIRED",
      "The group member needs to have a valid member id before actually entering a consumer group."),
    Entry(80, "PREFERRED_LEADER_NOT_AVAILABLE", retriable: true, "The preferred leader was not available."),
    Entry(81, "GROUP_MAX_SIZE_REACHED", "The consumer group has reached its max size."),
    Entry(82, "FENCED_INSTANCE_ID", "Another member with the same group.instance.id has taken this member's place."),
    Entry(83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", retriable: true, "Eligible topic partition leaders are not available."),
    Entry(84, "ELECTION_NOT_NEEDED", retriable: true, "Leader election not needed for topic partition."),
    Entry(85, "NO_REASSIGNMENT_IN_PROGRESS", "No partition reassignment is in progress."),
    Entry(
      86, "GROUP_SUBSCRIBED_TO_TOPIC",
      "Deleting offsets of a topic is forbidden while the consumer group is actively subscribed to it."),
    Entry(87, "INVALID_RECORD", "This record has failed the validation on broker and hence will be rejected."),
    Entry(88, "UNSTABLE_OFFSET_COMMIT", retriable: true, "There are unstable offsets that need to be cleared."),
    Entry(89, "THROTTLING_QUOTA_EXCEEDED", retriable: true, "The throttling quota has been exceeded."),
    Entry(
      90, "PRODUCER_FENCED",
      "There is a newer producer with the same transactionalId which fences the current one."),
    Entry(91, "RESOURCE_NOT_FOUND", "A request illegally referred to a resource that does not exist."),
    Entry(92, "DUPLICATE_RESOURCE", "A request illegally referred to the same resource twice."),
    Entry(93, "UNACCEPTABLE_CREDENTIAL", "Requested credential would not meet criteria for acceptability."),
    Entry(
      94, "INCONSISTENT_VOTER_SET",
      "Indicates that the either the sender or recipient of a voter-only request is not one of the expected voters."),
    Entry(95, "INVALID_UPDATE_VERSION", "The given update version was invalid."),
    Entry(96, "FEATURE_UPDATE_FAILED", "Unable to update finalized features due to an unexpected server error."),
    Entry(97, "PRINCIPAL_DESERIALIZATION_FAILURE", "Request principal deserialization failed during forwarding."),
    Entry(98, "SNAPSHOT_NOT_FOUND", "Requested snapshot was not found."),
    Entry(
      99, "POSITION_OUT_OF_RANGE",
      "Requested position is not greater than or equal to zero, and less than the size of the snapshot."),
    Entry(100, "UNKNOWN_TOPIC_ID", retriable: true, "This server does not host this topic ID."),
    Entry(101, "DUPLICATE_BROKER_REGISTRATION", "This broker ID is already in use."),
    Entry(102, "BROKER_ID_NOT_REGISTERED", "The given broker ID was not registered."),
    Entry(
      103, "INCONSISTENT_TOPIC_ID", retriable: true,
      "The log's topic ID did not match the topic ID in the request."),
    Entry(104, "INCONSISTENT_CLUSTER_ID", "The clusterId in the request does not match that found on the server."),
    Entry(105, "TRANSACTIONAL_ID_NOT_FOUND", "The transactionalId could not be found."),
    Entry(
      106, "FETCH_SESSION_TOPIC_ID_ERROR", retriable: true,
      "The fetch session encountered inconsistent topic ID usage."),
    Entry(107, "INELIGIBLE_REPLICA", "The new ISR contains at least one ineligible replica."),
    Entry(
      108, "NEW_LEADER_ELECTED",
      "The AlterPartition request successfully updated the partition state but the leader has changed."),
    Entry(109, "OFFSET_MOVED_TO_TIERED_STORAGE", "The requested offset is moved to tiered storage."),
    Entry(110, "FENCED_MEMBER_EPOCH", "The member epoch is fenced by the group coordinator."),
    Entry(111, "UNRELEASED_INSTANCE_ID", "The instance ID is still used by another member in the consumer group."),
    Entry(112, "UNSUPPORTED_ASSIGNOR", "The assignor or its version range is not supported by the consumer group."),
    Entry(113, "STALE_MEMBER_EPOCH", "The member epoch is stale."),
    Entry(114, "MISMATCHED_ENDPOINT_TYPE", "The request was sent to an endpoint of the wrong type."),
    Entry(115, "UNSUPPORTED_ENDPOINT_TYPE", "This endpoint type is not supported yet."),
    Entry(116, "UNKNOWN_CONTROLLER_ID", "This controller ID is not known."),
    Entry(
      117, "UNKNOWN_SUBSCRIPTION_ID",
      "Client sent a push telemetry request with an invalid or outdated subscription ID."),
    Entry(
      118, "TELEMETRY_TOO_LARGE",
      "Client sent a push telemetry request larger than the maximum size the broker will accept."),
    Entry(119, "INVALID_REGISTRATION", "The controller has considered the broker registration to be invalid."),
    Entry(120, "TRANSACTION_ABORTABLE", "The server encountered an error with the transaction."),
    Entry(121, "INVALID_RECORD_STATE", "The record state is invalid."),
    Entry(122, "SHARE_SESSION_NOT_FOUND", retriable: true, "The share session was not found."),
    Entry(123, "INVALID_SHARE_SESSION_EPOCH", retriable: true, "The share session epoch is invalid."),
    Entry(
      124, "FENCED_STATE_EPOCH",
      "The share coordinator rejected the request because the share-group state epoch did not match."),
    Entry(125, "INVALID_VOTER_KEY", "The voter key doesn't match the receiving replica's key."),
    Entry(126, "DUPLICATE_VOTER", "The voter is already part of the set of voters."),
    Entry(127, "VOTER_NOT_FOUND", "The voter is not part of the set of voters."),
    Entry(128, "INVALID_REGULAR_EXPRESSION", "The regular expression is not valid."),
    Entry(
      129, "REBOOTSTRAP_REQUIRED", "The client's metadata is stale; it has to start from its bootstrap servers again."),
    Entry(130, "STREAMS_INVALID_TOPOLOGY", "The supplied topology is invalid."),
    Entry(131, "STREAMS_INVALID_TOPOLOGY_EPOCH", "The supplied topology epoch is invalid."),
    Entry(132, "STREAMS_TOPOLOGY_FENCED", "The supplied topology epoch is outdated."),
    Entry(133, "SHARE_SESSION_LIMIT_REACHED", retriable: true, "The limit of share sessions has been reached."),
  ]

  /// The catalogue's entry, nil for a code that is not in it.
  public var entry: Entry? {
    let index = Int(rawValue) + 1
    return KafkaErrorCode.catalogue.indices.contains(index) ? KafkaErrorCode.catalogue[index] : nil
  }

  /// Whether this is an error at all.
  public var isError: Bool { self != .none }
  /// Kafka's name, or `CODE_n` for a code that is not in the catalogue.
  public var name: String { entry?.name ?? "CODE_\(rawValue)" }
  /// Whether the same request may succeed later.
  public var isRetriable: Bool { entry?.isRetriable ?? false }
  /// One sentence for people.
  public var text: String { entry?.text ?? "Error code \(rawValue), which is not known here." }
  /// Name and code.
  public var description: String { "\(name) (\(rawValue))" }
}
