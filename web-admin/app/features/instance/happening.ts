/** What a line of the timeline says, where it is more than its type. */

/** The two phases of "pending → running". */
export function phasesIn(message: string): [from: string, to: string] | null {
  const [, from, to] = /^(\w+) → (\w+)$/.exec(message) ?? []
  return from && to ? [from, to] : null
}
