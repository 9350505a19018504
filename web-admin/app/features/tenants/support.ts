/** How an operator's look into a tenant stands. */

import type { Support } from './api'

export function standingOf({ ended_at: endedAt, expires_at: expiresAt }: Support, now: number): 'open' | 'ended' | 'over' {
  if (endedAt !== null) return 'ended'
  return Date.parse(expiresAt) > now ? 'open' : 'over'
}
