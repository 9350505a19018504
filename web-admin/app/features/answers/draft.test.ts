import { describe, expect, it } from 'vitest'
import { useAnswersDraft } from './draft'

describe('useAnswersDraft', () => {
  const saved = [{ question: '几点开门', answer: '九点' }]

  it('is unchanged after a load, also by an empty row', () => {
    const draft = useAnswersDraft()
    draft.reset(saved)
    expect(draft.isChanged.value).toBe(false)
    draft.add()
    expect(draft.isChanged.value).toBe(false)
    expect(draft.answers.value).toEqual(saved)
  })

  it('knows half-written rows', () => {
    const draft = useAnswersDraft()
    draft.reset(saved)
    draft.add({ question: '送货吗', answer: ' ' })
    expect(draft.isChanged.value).toBe(true)
    expect(draft.isComplete.value).toBe(false)
  })

  it('compares with what was saved, not with what is shown', () => {
    const draft = useAnswersDraft()
    draft.reset(saved)
    const [row] = draft.rows.value
    if (row) row.answer = '十点'
    const sent = draft.answers.value
    if (row) row.answer = '十一点'
    draft.markSaved(sent)
    expect(draft.isChanged.value).toBe(true)
  })

  it('removes a row by its key', () => {
    const draft = useAnswersDraft()
    draft.reset([...saved, { question: '送货吗', answer: '送' }])
    draft.remove(draft.rows.value[0]?.key ?? 0)
    expect(draft.answers.value).toEqual([{ question: '送货吗', answer: '送' }])
  })
})
