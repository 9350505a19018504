// @vitest-environment happy-dom
import { describe, expect, it } from 'vitest'
import { dress, readableOn } from './accent'

describe('readableOn', () => {
  it.each([
    ['#0f766e', '#ffffff'],
    ['#000000', '#ffffff'],
    ['#ffffff', '#000000'],
    ['#ffd400', '#000000'],
    ['#D92D20', '#ffffff'],
  ])('%s is %s', (color, expected) => {
    expect(readableOn(color)).toBe(expected)
  })
})

describe('dress', () => {
  it('sets the colour and what is written on it', () => {
    const root = document.createElement('div')
    dress(root, '#ffd400')
    expect(root.style.getPropertyValue('--own')).toBe('#ffd400')
    expect(root.style.getPropertyValue('--on-own')).toBe('#000000')
  })

  it.each([null, 'red', '#fff', '#ffd400; color: red'])('leaves ours for %s', (accent) => {
    const root = document.createElement('div')
    dress(root, accent)
    expect(root.style.length).toBe(0)
  })
})
