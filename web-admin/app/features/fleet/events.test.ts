import { describe, expect, it } from 'vitest'
import type { FleetEvent } from './api'
import { sayingOf } from './events'

const saying = (type: string, message: string) =>
  sayingOf({ type, message } as FleetEvent, (phase) => `<${phase}>`)

describe('what an event says', () => {
  it('names phases in words', () => {
    expect(saying('instance.phase', 'pending → running')).toBe('<pending> → <running>')
  })

  it('is nothing that its type says already', () => {
    expect(saying('instance.restart', 'restart asked for')).toBe('')
    expect(saying('agent.active', 'agent active, epoch 7')).toBe('agent active, epoch 7')
  })
})
