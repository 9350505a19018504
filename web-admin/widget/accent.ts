/** The tenant's colour on the page, with writing on it that can be read. */

/** Black or white, whichever stands out more from a colour such as `#0f766e` (WCAG 2 contrast). */
export function readableOn(color: string): '#000000' | '#ffffff' {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) =>
    linear(parseInt(color.slice(at, at + 2), 16) / 255),
  )
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
  return (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) ? '#000000' : '#ffffff'
}

/** Sets the colours of the heading and of the visitor's own messages; null leaves ours. */
export function dress(root: HTMLElement, accent: string | null): void {
  if (accent === null || !/^#[0-9a-f]{6}$/i.test(accent)) return
  const writing = readableOn(accent)
  for (const name of ['--brand', '--own']) root.style.setProperty(name, accent)
  for (const name of ['--on-brand', '--on-own']) root.style.setProperty(name, writing)
}

function linear(share: number): number {
  return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
}
