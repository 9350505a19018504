/** What became of dead letters that were dealt with once more. */

import type { Became } from './api'

/** Waiting ones are on their way; a duplicate is there already. */
const GOOD: ReadonlySet<Became> = new Set(['stored', 'waiting', 'duplicate'])

export function countedOutcome(became: readonly Became[]): { good: number; bad: number } {
  const good = became.filter((each) => GOOD.has(each)).length
  return { good, bad: became.length - good }
}
