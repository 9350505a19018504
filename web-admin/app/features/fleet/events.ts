/** What a line of a bot's events says beyond its type. */

import type { FleetEvent } from './api'

/** `word` gives the name of a phase; that something was asked for stands in the type. */
export function sayingOf({ type, message }: FleetEvent, word: (phase: string) => string): string {
  if (type === 'instance.phase') return message.split(' → ').map(word).join(' → ')
  return type.startsWith('instance.') && message.endsWith(' asked for') ? '' : message
}
