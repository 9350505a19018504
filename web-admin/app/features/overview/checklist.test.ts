import { describe, expect, it } from 'vitest'
import { checklistOf, hasAnswered, isFinished } from './checklist'

const none = { isConnected: false, hasMessage: false, hasAnswered: false, hasCompany: false }

describe('checklistOf', () => {
  it('ticks what is, in the order in which people do it', () => {
    expect(checklistOf({ ...none, isConnected: true, hasCompany: true })).toEqual([
      { name: 'channel', isDone: true },
      { name: 'message', isDone: false },
      { name: 'answer', isDone: false },
      { name: 'team', isDone: true },
    ])
  })

  it('is finished when nothing is left', () => {
    expect(isFinished(checklistOf(none))).toBe(false)
    expect(isFinished(checklistOf({ isConnected: true, hasMessage: true, hasAnswered: true, hasCompany: true }))).toBe(true)
  })
})

describe('hasAnswered', () => {
  it('is told by an answer alone', () => {
    const turns = (...states: string[]) => states.map((state) => ({ state }))
    expect(hasAnswered(turns('running', 'handed_over', 'fell_back', 'dropped'))).toBe(false)
    expect(hasAnswered(turns('handed_over', 'answered'))).toBe(true)
  })
})
