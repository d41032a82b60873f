// ConfigurationReload: the configuration file read again while the server runs, as a hang-up (SIGHUP) asks for.

import MillraceBase
import MillraceBroker
import MillraceIO

/// Says what reading a configuration file again has changed, and refuses one with an error in it. Belongs to the reactor.
final class ConfigurationReload {
  private let broker: Broker
  private let logger: Logger
  private let file: String
  private let reread: ServerConfiguration.Reread
  private let executor: any BlockingExecutor
  private var isReading = false
  private var isAskedAgain = false

  init?(_ configuration: ServerConfiguration, broker: Broker, logger: Logger, executor: any BlockingExecutor) {
    guard let file = configuration.file, let reread = configuration.reread else { return nil }
    self.file = file
    self.reread = reread
    self.broker = broker
    self.logger = logger
    self.executor = executor
  }

  /// Reads the file again, away from the reactor, and takes over what can change while the server runs.
  func begin() {
    // One after the other, so that the newest contents count.
    guard !isReading else { return isAskedAgain = true }
    isReading = true
    let box = ReactorBound(self, on: broker.reactor)
    let reactor = broker.reactor
    executor.submit { [reread] in
      let (configuration, problems) = reread()
      let settings = configuration.settings
      reactor.submit { box.take().take(settings, problems) }
    }
  }

  private func take(_ settings: BrokerSettings, _ problems: [ConfigurationProblem]) {
    isReading = false
    defer {
      if isAskedAgain {
        isAskedAgain = false
        begin()
      }
    }
    guard broker.isOpen else { return }
    for warning in problems where warning.isWarning {
      logger.log(.warning, "settings", warning.description)
    }
    let errors = problems.filter { !$0.isWarning }
    guard errors.isEmpty else { return refuse(errors.map(\.description)) }
    do throws(BrokerError) {
      report(try broker.reload(settings))
    } catch {
      refuse(["\(error.reason), with what was set while the server ran"])
    }
  }

  private func refuse(_ reasons: [String]) {
    for reason in reasons {
      logger.log(
        .error, "settings", "configuration not read again; the settings that were read before stay in use",
        ["file": file, "reason": reason])
    }
    broker.audit.reloaded(file, settings: [], reason: reasons[0])
  }

  private func report(_ reload: SettingsReload) {
    logger.log(
      .info, "settings", "configuration read again",
      ["file": file, "changed": reload.changed.map { "\($0.name)=\($0.value)" }.joined(separator: " ")])
    if !reload.needsRestart.isEmpty {
      logger.log(
        .warning, "settings", "settings that were changed in the file count after a restart",
        ["file": file, "settings": reload.needsRestart.joined(separator: " ")])
    }
    if !reload.overridden.isEmpty {
      logger.log(
        .warning, "settings",
        "settings that were changed in the file do not count, because they are given by something stronger",
        [
          "settings": reload.overridden.map { name in
            let value = broker.settings.values(of: name)[0]
            return "\(name) (\(value.place.isEmpty ? value.source.name : value.place))"
          }.joined(separator: ", ")
        ])
    }
    broker.audit.reloaded(file, settings: reload.changed.map(\.name))
  }
}
