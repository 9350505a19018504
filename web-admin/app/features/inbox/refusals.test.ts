import { describe, expect, it } from 'vitest'
import { ApiError } from '../../api/problem'
import { describeRefusal } from './refusals'

const t = (key: string) => key

describe('describeRefusal', () => {
  it('has words of its own for what the inbox meets', () => {
    expect(describeRefusal(new ApiError(503, 'model_failed', 'No model.'), t)).toBe('inboxRefusal.model_failed')
  })

  it('leaves the rest to the words that all pages share', () => {
    expect(describeRefusal(new ApiError(503, 'restarting', 'Later.'), t)).toBe('problem.server')
  })
})
