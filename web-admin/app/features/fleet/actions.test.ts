import { describe, expect, it } from 'vitest'
import type { Instance } from '../../api/types'
import { actionsFor } from './actions'

const actions = (desired: string, suspended: string | null = null) =>
  actionsFor({ desired, suspended_at: suspended } as Instance)

describe('what an operator may do about a bot', () => {
  it('depends on what is wanted of it', () => {
    expect(actions('running')).toEqual(['reconcile', 'restart', 'suspend'])
    expect(actions('stopped')).toEqual(['reconcile', 'suspend'])
    expect(actions('deleted')).toEqual(['reconcile'])
  })

  it('is to resume it, where it is suspended', () => {
    expect(actions('running', '2026-01-01T00:00:00Z')).toEqual(['reconcile', 'resume'])
  })
})
