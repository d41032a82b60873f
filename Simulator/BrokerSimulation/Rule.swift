// Rule: what the checks of a simulation hold against, by name, so that each can be shown to notice its breach.

/// A rule that a run may break.
public enum Rule: String, CaseIterable, Sendable {
  /// An acknowledged record is at its offset, as it was sent.
  case acknowledgedRecords = "acknowledged records"
  /// Records of a producer stand in its order, under idempotence once.
  case producerOrder = "producer order"
  /// Nothing of an epoch that is over is taken.
  case fencedEpochs = "fenced epochs"
  /// What was read stays, and the end of a partition never goes back.
  case stableReads = "stable reads"
  /// A consumer alone in its group finds its offsets.
  case loneOffsets = "lone offsets"
  /// A partition has one owner in a generation or member epoch.
  case groupOwnership = "group ownership"
  /// Members are told the offsets that were committed, and begin where others ended.
  case groupOffsets = "group offsets"
  /// Members get to every record.
  case delivery = "delivery"
  /// What is done in a share group is done once, and nobody gets it again.
  case sharedOnce = "shared once"
  /// Members of a share group are given every record.
  case sharedDelivery = "shared delivery"
  /// Topics that were made are there, deleted ones are not.
  case topics = "topics"
  /// A job counts everything once.
  case jobCounts = "job counts"
  /// The history of transactions has no anomaly.
  case transactionHistory = "transaction history"
  /// Retention and compaction take only what they may.
  case cleanupKeeps = "cleanup keeps"
  /// Retention and compaction change nothing of what stays.
  case cleanupShows = "cleanup shows"
  /// Outputs and offsets of transactions that read and write agree.
  case transformations = "transformations"
  /// A message that was confirmed, or delivered and not settled, is in a queue, as it was sent.
  case queueMessages = "queue messages"
  /// What was settled durably never comes again.
  case queueSettlements = "queue settlements"
  /// Messages of a publisher come in its order, higher priorities first.
  case queueOrder = "queue order"
  /// A message is in one place, once, and with one consumer.
  case queueDuplicates = "queue duplicates"
  /// Publications and settlements of a transaction happen together or not at all.
  case queueTransactions = "queue transactions"
  /// Nothing comes before its time.
  case queueDelays = "queue delays"
  /// What is rejected is among the dead letters, with its history.
  case queueDeadLetters = "queue dead letters"
  /// Failed deliveries are counted, and limited.
  case queueDeliveryCounts = "queue delivery counts"
  /// One message of a key at a time.
  case queueGroups = "queue groups"
  /// Queues that were made are there and hold what they should, deleted ones are not.
  case queueTopology = "queue topology"
  /// The broker starts whatever happened before.
  case starting = "starting"
  /// When nothing fails any more everybody gets on.
  case progress = "progress"
  /// Answers can be read, and nobody is refused without a reason.
  case answers = "answers"
}
