// Bars on a logarithmic scale, in the look of the plots in benches/results.
const INK = '#1F2328';
const GREY = '#818B98';
const BLUE = '#0969DA';
const PALE = '#AFB8C1';
const FONT = 'font-family="sans-serif"';

export function bars(title, unit, values) {
  const sorted = Object.entries(values).sort(([, a], [, b]) => a - b);
  const [left, top, width, row] = [170, 34, 560, 30];
  const height = top + sorted.length * row + 44;
  const least = 10 ** Math.floor(Math.log10(Math.min(...Object.values(values))));
  const most = Math.max(...Object.values(values)) * 1.5;
  const x = (value) => left + (width * Math.log(value / least)) / Math.log(most / least);
  const bottom = top + sorted.length * row;
  const lines = [
    `<svg width="820" height="${height}" viewBox="0 0 820 ${height}" xmlns="http://www.w3.org/2000/svg">`,
    `<rect x="0" y="0" width="820" height="${height}" fill="#FFFFFF"/>`,
    `<text x="410" y="18" text-anchor="middle" ${FONT} font-size="14" fill="${INK}">${title}</text>`,
  ];
  for (let mark = least; mark <= most; mark *= 10) {
    lines.push(
      `<line x1="${x(mark).toFixed(0)}" y1="${top}" x2="${x(mark).toFixed(0)}" y2="${bottom}" stroke="${PALE}" opacity="0.5"/>`,
    );
    lines.push(
      `<text x="${x(mark).toFixed(0)}" y="${bottom + 16}" text-anchor="middle" ${FONT} font-size="10" fill="${INK}">${mark}</text>`,
    );
  }
  lines.push(`<line x1="${left}" y1="${bottom}" x2="${left + width}" y2="${bottom}" stroke="${GREY}"/>`);
  sorted.forEach(([name, value], index) => {
    const y = top + index * row + 4;
    const color = name === 'evertoken' ? BLUE : name === 'Date.now()' ? GREY : PALE;
    lines.push(`<rect x="${left}" y="${y}" width="${(x(value) - left).toFixed(0)}" height="21" fill="${color}"/>`);
    lines.push(`<text x="${left - 6}" y="${y + 15}" text-anchor="end" ${FONT} font-size="11" fill="${INK}">${name}</text>`);
    lines.push(
      `<text x="${(x(value) + 5).toFixed(0)}" y="${y + 15}" ${FONT} font-size="11" fill="${INK}">${Math.round(value)}</text>`,
    );
  });
  lines.push(
    `<text x="${left + width / 2}" y="${height - 8}" text-anchor="middle" ${FONT} font-size="10" fill="${INK}">${unit}</text>`,
    '</svg>',
  );
  return `${lines.join('\n')}\n`;
}
