import { describe, expect, it } from 'vitest'
import type { Support } from './api'
import { standingOf } from './support'

const NOW = Date.parse('2026-01-01T12:00:00Z')
const standing = (expires: string, ended: string | null = null) =>
  standingOf({ expires_at: expires, ended_at: ended } as Support, NOW)

describe('a look into a tenant', () => {
  it('is open until its end, or until somebody ends it', () => {
    expect(standing('2026-01-01T12:00:01Z')).toBe('open')
    expect(standing('2026-01-01T12:00:00Z')).toBe('over')
    expect(standing('2026-01-01T13:00:00Z', '2026-01-01T11:00:00Z')).toBe('ended')
  })
})
