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
  /// The broker starts whatever happened before.
  case starting = "starting"
  /// When nothing fails any more everybody gets on.
  case progress = "progress"
  /// Answers can be read, and nobody is refused without a reason.
  case answers = "answers"
}
