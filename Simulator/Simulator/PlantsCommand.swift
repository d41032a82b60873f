// PlantsCommand: `Simulator plants`: whether everything that is broken on purpose is noticed.

import BrokerSimulation
import Dispatch
import Synchronization

enum PlantsCommand {
  /// Prints what is not noticed.
  /// - Returns: whether all is.
  static func run() -> Bool {
    let plants = Plants.all
    let problems = Mutex<[(number: Int, text: String)]>([])
    DispatchQueue.concurrentPerform(iterations: plants.count) { number in
      guard let problem = plants[number].problem() else { return }
      problems.withLock { $0.append((number, "\(plants[number].name): \(problem)")) }
    }
    let found = problems.withLock { $0.sorted { $0.number < $1.number } }
    for problem in found { print(problem.text) }
    print("\(plants.count - found.count) of \(plants.count) plants are noticed")
    return found.isEmpty && !plants.isEmpty
  }
}
