// SettingsReload: what becomes of settings when the configuration file is read again while the broker runs.

import MillraceBase

/// What reading the file again does to the settings.
public struct SettingsReload: Equatable, Sendable {
  /// A setting whose value that counts has changed.
  public struct Change: Equatable, Sendable {
    /// Name.
    public var name: String
    /// The value as text may show it.
    public var value: String
  }

  /// What counts from now on.
  public var changed: [Change] = []
  /// Changed in the file, but fixed until the next start.
  public var needsRestart: [String] = []
  /// Changed in the file, but given by something stronger, which goes on to count.
  public var overridden: [String] = []

  /// Whether the file says what it said before.
  public var isEmpty: Bool { changed.isEmpty && needsRestart.isEmpty && overridden.isEmpty }
}

extension BrokerSettings {
  /// Takes over what the configuration file says now, as far as it can change while the program runs. The rest stays as it
  /// was, so that the next call names it again.
  /// - Parameter next: settings from all that the program is started with, as a start now would have them.
  public mutating func takeFile(of next: BrokerSettings) -> SettingsReload {
    let before = self
    var reload = SettingsReload()
    for setting in BrokerSettings.table {
      let name = setting.name
      let new = next.given[name]?.first { $0.source == .file }
      let old = given[name]?.first { $0.source == .file }
      guard new != old else { continue }
      let isStronger = (given[name]?.first).map { $0.source < .file } ?? false
      if new?.value != old?.value, !setting.isDynamic {
        // What an option or the environment gives counts after a restart as well.
        if isStronger { reload.overridden.append(name) } else { reload.needsRestart.append(name) }
        continue
      }
      given[name]?.removeAll { $0.source == .file }
      if let new { put(new, name) }
      if given[name]?.isEmpty == true { given[name] = nil }
      if new?.value != old?.value, isStronger || isSetWhileRunning(name) { reload.overridden.append(name) }
    }
    refresh()
    for setting in BrokerSettings.table {
      guard let value = text(setting.name), value != before.text(setting.name) else { continue }
      reload.changed.append(.init(name: setting.name, value: setting.shown(value)))
    }
    return reload
  }
}

extension Setting {
  /// A value as it may be shown.
  public func shown(_ value: String) -> String { isSecret && !value.isEmpty ? LogRedaction.mark : value }
}

extension Broker {
  /// Takes over what the configuration file says now; see ``BrokerSettings/takeFile(of:)``. It counts from the call on.
  /// - Throws: `.invalidConfig` when it does not go together with what was set while the broker ran; then nothing changes.
  public func reload(_ next: BrokerSettings) throws(BrokerError) -> SettingsReload {
    var would = settings
    let reload = would.takeFile(of: next)
    try would.checkTogether()
    settings = would
    access.refresh()
    onSettingsChange()
    return reload
  }
}
