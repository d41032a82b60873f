// BrokerTypes: the types of lower floors that the broker's calls take and give, named here so that protocol servers need
// not know the floors they come from.

import MillraceLog
import MillraceMetadata

/// One partition's offsets and epochs, read-only to protocol servers.
public typealias PartitionLog = MillraceLog.PartitionLog
/// A transaction whose records are void.
public typealias AbortedTransaction = MillraceLog.AbortedTransaction
/// A producer's id with one of its epochs.
public typealias ProducerIdentity = MillraceMetadata.ProducerIdentity
/// What an append gave a batch.
public typealias AppendedBatch = MillraceLog.AppendedBatch
/// A topic.
public typealias TopicMetadata = MillraceMetadata.TopicMetadata
/// An offset that a consumer group committed.
public typealias CommittedOffset = MillraceMetadata.CommittedOffset
/// A committed offset and the partition it belongs to.
public typealias PartitionOffset = MillraceMetadata.PartitionOffset
/// What besides topics has settings.
public typealias ConfigResource = MillraceMetadata.ConfigResource
/// A user with tags and what is kept of passwords.
public typealias User = MillraceMetadata.User
/// Whom a quota binds.
public typealias QuotaEntity = MillraceMetadata.QuotaEntity
