import { describe, expect, it } from 'vitest'
import { filled, mentionsIn } from './words'

describe('mentionsIn', () => {
  const members = [
    { id: '1', name: 'Li' },
    { id: '2', name: 'Li Wei' },
    { id: '3', name: '小王' },
    { id: '4', name: '' },
    { id: '5', name: 'Ann' },
    { id: '6', name: 'Ann' },
  ]

  it.each([
    ['nobody: Li, a@b', []],
    ['@Li Wei knows', ['2']],
    ['@Li knows', ['1']],
    ['@Li and @Li Wei', ['2', '1']],
    ['请@小王看一下', ['3']],
    ['@Ann', ['5', '6']],
  ])('finds in %s: %o', (text, ids) => {
    expect(mentionsIn(text, members).toSorted()).toEqual(ids.toSorted())
  })

  it('calls no more than the server takes', () => {
    const many = Array.from({ length: 30 }, (_, index) => ({ id: `${index}`, name: `name${index}.` }))
    expect(mentionsIn(many.map(({ name }) => `@${name}`).join(' '), many)).toHaveLength(20)
  })
})

describe('filled', () => {
  it('puts the names in, as they are, and leaves other braces alone', () => {
    const names = { contact: '{member}', member: 'Li $& Wei' }
    expect(filled('{contact}, this is {member}. {order} {contact}', names)).toBe(
      '{member}, this is Li $& Wei. {order} {member}',
    )
  })
})
