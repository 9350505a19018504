import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

const APP = join(import.meta.dirname, '..')
const tokens = new Map(
  [...readFileSync(join(import.meta.dirname, 'tokens.css'), 'utf8').matchAll(/^\s*(--[\w-]+):\s*([^;]+);/gm)].map(
    ([, name = '', value = '']) => [name, value],
  ),
)

/** A token's colour in a theme, as red, green and blue. */
function colour(name: string, theme: 'light' | 'dark'): number[] {
  const value = tokens.get(name) ?? ''
  const [light, dark] = /light-dark\((.+), (.+)\)/.exec(value)?.slice(1) ?? [value, value]
  const hex = /^#([\da-f]{6})$/.exec((theme === 'light' ? light : dark) ?? '')?.[1]
  if (hex === undefined) throw new Error(`${name} is no plain colour: ${value}`)
  return [0, 2, 4].map((at) => Number.parseInt(hex.slice(at, at + 2), 16) / 255)
}

/** Contrast as WCAG 2.2 measures it. */
function contrast(one: number[], other: number[]): number {
  const [high = 0, low = 0] = [one, other].map(luminance).toSorted((a, b) => b - a)
  return (high + 0.05) / (low + 0.05)
}

function luminance(channels: number[]): number {
  const [red = 0, green = 0, blue = 0] = channels.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue
}

const GROUNDS = ['--ground', '--surface', '--surface-raised']
const TEXT_ON: Record<string, string[]> = {
  '--text': [...GROUNDS, '--brand-soft'],
  '--text-quiet': [...GROUNDS, '--brand-soft'],
  '--brand-text': [...GROUNDS, '--brand-soft'],
  '--good-text': ['--surface', '--good-soft'],
  '--busy-text': ['--surface', '--busy-soft'],
  '--warning-text': [...GROUNDS, '--warning-soft'],
  '--danger-text': [...GROUNDS, '--danger-soft'],
  '--code-ink': ['--code-paper'],
  '--on-brand': ['--brand', '--brand-strong', '--danger', '--danger-strong'],
}

describe.each(['light', 'dark'] as const)('the %s colours', (theme) => {
  const pairs = Object.entries(TEXT_ON).flatMap(([text, grounds]) => grounds.map((ground) => [text, ground]))

  it.each(pairs)('let %s be read on %s', (text = '', ground = '') => {
    expect(contrast(colour(text, theme), colour(ground, theme))).toBeGreaterThanOrEqual(4.5)
  })

  it.each(GROUNDS)('let fields be seen on %s', (ground) => {
    expect(contrast(colour('--line-field', theme), colour(ground, theme))).toBeGreaterThanOrEqual(3)
  })
})

describe.each(['light', 'dark'] as const)('the %s colours of tags', (theme) => {
  const names = [...tokens.keys()].filter((name) => name.startsWith('--tag-'))

  it.each(names)('let %s be told from what it lies on', (name) => {
    expect(contrast(colour(name, theme), colour('--surface-raised', theme))).toBeGreaterThanOrEqual(3)
  })
})

describe('components', () => {
  const styled = readdirSync(APP, { recursive: true, encoding: 'utf8' }).filter(
    (name) => /\.(vue|css)$/.test(name) && !name.endsWith('tokens.css'),
  )
  const RAW = /#[\da-f]{3,8}\b|\b(?:rgb|hsl|oklch|lab|color)a?\(|:\s*(?:white|black|red|green|blue|gr[ae]y)\b/i

  it('name colours by their tokens only', () => {
    expect(styled.length).toBeGreaterThan(20)
    const raw = styled.flatMap((name) => {
      const text = readFileSync(join(APP, name), 'utf8')
      const styles = name.endsWith('.vue') ? (/<style[^>]*>([\s\S]*)<\/style>/.exec(text)?.[1] ?? '') : text
      return styles.split('\n').flatMap((line) => (RAW.test(line) ? [`${name}: ${line.trim()}`] : []))
    })
    expect(raw).toEqual([])
  })

  it('name tokens that there are', () => {
    const unknown = styled.flatMap((name) =>
      [...readFileSync(join(APP, name), 'utf8').matchAll(/var\((--[\w-]+)/g)]
        .map(([, token = '']) => token)
        .filter((token) => !tokens.has(token) && !token.startsWith('--el-'))
        .map((token) => `${name}: ${token}`),
    )
    expect(unknown).toEqual([])
  })
})
