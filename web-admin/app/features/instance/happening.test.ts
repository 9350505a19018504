import { describe, expect, it } from 'vitest'
import type { Happening } from './api'
import { isInTimeline, ownerIn, phasesIn, told } from './happening'

const line = (type: string, data: Record<string, unknown>) => ({ type, data }) as Happening

describe('phasesIn', () => {
  it('finds where an instance came from and where it went', () => {
    expect(phasesIn('crash_loop → running')).toEqual(['crash_loop', 'running'])
  })

  it('finds nothing in other sentences', () => {
    expect(phasesIn('restart asked for')).toBeNull()
  })
})

describe('ownerIn', () => {
  it('finds who answers from then on, of conversations alone', () => {
    expect(ownerIn(line('conversation.owner', { owner: 'human' }))).toBe('human')
    expect(ownerIn(line('conversation.begin', {}))).toBeNull()
    expect(ownerIn(line('instance.start', { owner: 'human' }))).toBeNull()
  })
})

describe('told', () => {
  it('finds texts and numbers, and nothing else', () => {
    expect(told(line('channel.status', { state: 'failed' }), 'state')).toBe('failed')
    expect(told(line('revision.publish', { number: 3 }), 'number')).toBe('3')
    expect(told(line('channel.status', { state: null }), 'state')).toBe('')
  })
})

describe('isInTimeline', () => {
  it('hears of a conversation when it begins and when it changes hands', () => {
    expect(isInTimeline({ type: 'message.created', data: { number: 1 } }, 'i')).toBe(true)
    expect(isInTimeline({ type: 'message.created', data: { number: 2 } }, 'i')).toBe(false)
    expect(isInTimeline({ type: 'conversation.owner_changed', data: {} }, 'i')).toBe(true)
  })

  it('hears of its own instance only', () => {
    expect(isInTimeline({ type: 'instance.phase', data: { instance_id: 'i' } }, 'i')).toBe(true)
    expect(isInTimeline({ type: 'instance.phase', data: { instance_id: 'other' } }, 'i')).toBe(false)
  })
})
