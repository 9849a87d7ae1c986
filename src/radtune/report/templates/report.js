// What the page does beyond showing: language, filters, enlarged pictures. Without it every card shows, in English.
'use strict';
const page = document.documentElement;
const address = new URL(location.href);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

function speak(language) {
  page.lang = language;
  for (const element of all('[data-zh]')) {
    const attribute = element.dataset.of;
    element.dataset.en ??= attribute ? element.getAttribute(attribute) : element.textContent;
    const text = element.dataset[language];
    if (attribute) element.setAttribute(attribute, text);
    else element.textContent = text;
  }
}

addEventListener('DOMContentLoaded', () => {
  const asked = address.searchParams.get('lang') ?? navigator.language;
  if (asked.startsWith('zh')) speak('zh');
  const language = document.getElementById('language');
  language.hidden = false;
  language.addEventListener('click', () => {
    speak(page.lang === 'zh' ? 'en' : 'zh');
    address.searchParams.set('lang', page.lang); // the only place where the choice is kept
    address.hash = location.hash;
    history.replaceState(null, '', address);
  });

  const filters = document.getElementById('filters');
  if (!filters) return; // a page that has none
  const texts = new Map(all('.card').map((card) => [
    card, all('.id, .prompt, .answer', card).map((part) => part.textContent).join(' ').toLowerCase(),
  ]));
  const fits = (card, { name, value }) => name === 'words'
    ? value.toLowerCase().split(/\s+/).every((word) => texts.get(card).includes(word))
    : !value || card.dataset[name] === value || card.dataset[name].split(' ').includes(value);
  let most = 12; // cards on the screen before one asks for all; on paper all that fit
  const filter = () => {
    const controls = all('select, input', filters);
    let found = 0;
    for (const card of texts.keys()) {
      card.hidden = !controls.every((control) => fits(card, control));
      found += !card.hidden;
      card.classList.toggle('later', found > most);
    }
    document.getElementById('count').textContent = found;
    document.getElementById('nothing').hidden = found > 0;
    document.getElementById('more').hidden = found <= most;
  };
  filters.hidden = false;
  filters.addEventListener('input', filter);
  document.getElementById('more').addEventListener('click', () => { most = Infinity; filter(); });
  filter();

  const enlarged = document.getElementById('enlarged');
  for (const card of texts.keys()) {
    card.querySelector('button.frame')?.addEventListener('click', () => {
      const copy = card.cloneNode(true);
      const still = document.createElement('div');
      still.className = 'frame';
      still.append(copy.querySelector('.frame svg'));
      copy.querySelector('.frame').replaceWith(still);
      enlarged.lastElementChild.replaceWith(copy);
      enlarged.showModal();
    });
  }
  enlarged.addEventListener('click', ({ target }) => {
    if (target === enlarged || target.closest('.close')) enlarged.close();
  });
});
