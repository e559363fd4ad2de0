"""The trilepton selection for RDataFrame, as the peer of `bench/skim.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_SELECTION = """
#include <cmath>
#include <vector>
#include "Math/Vector4D.h"
#include "Math/VectorUtil.h"
#include "ROOT/RVec.hxx"

namespace trilepton {
using ROOT::RVec;
using P4 = ROOT::Math::PtEtaPhiMVector;
struct Lepton { P4 p4; int charge, flavour, highPt; bool tight; };
struct Result {
  bool pass = false;
  int channel = 0, nGoodLepton = 0;
  float ZCand_mass, ZCand_pt, ZCand_dR, ZCand_dPhi, ZCand_dEta, ZLep1_pt, ZLep1_eta, ZLep1_phi, ZLep2_pt, ZLep2_eta,
      ZLep2_phi, WLep_pt, WLep_eta, WLep_phi, WCand_mT, ThreeLep_mass, ThreeLep_sumPt;
};
template <class Id, class HighPt>
Result select(const RVec<float>& ept, const RVec<float>& eeta, const RVec<float>& ephi, const RVec<float>& emass,
              const RVec<int>& echarge, const RVec<Id>& eid, const RVec<float>& mpt, const RVec<float>& meta,
              const RVec<float>& mphi, const RVec<float>& mmass, const RVec<int>& mcharge, const RVec<float>& ip3d,
              const RVec<HighPt>& highPt, float met, float metphi) {
  Result r;
  std::vector<Lepton> leptons;
  for (size_t i = 0; i < ept.size(); ++i)
    if (ept[i] > 10 && std::abs(eeta[i]) < 2.5 && eid[i] >= 2)
      leptons.push_back({P4(ept[i], eeta[i], ephi[i], emass[i]), echarge[i], 11, 0, eid[i] == 4 && ept[i] >= 50});
  for (size_t i = 0; i < mpt.size(); ++i)
    if (mpt[i] > 20 && std::abs(meta[i]) < 2.4 && ip3d[i] < 0.01 && highPt[i] >= 1)
      leptons.push_back(
          {P4(mpt[i], meta[i], mphi[i], mmass[i]), mcharge[i], 13, int(highPt[i]), highPt[i] == 2 && mpt[i] >= 70});
  r.nGoodLepton = leptons.size();
  if (leptons.size() < 3) return r;
  int first = -1, second = -1;
  double best = 1e9;
  for (size_t i = 0; i < leptons.size(); ++i)
    for (size_t j = i + 1; j < leptons.size(); ++j) {
      if (leptons[i].charge + leptons[j].charge != 0 || leptons[i].flavour != leptons[j].flavour) continue;
      double away = std::abs((leptons[i].p4 + leptons[j].p4).M() - 91.1876);
      if (away < best) { best = away; first = i; second = j; }
    }
  if (first < 0) return r;
  if (leptons[second].p4.Pt() > leptons[first].p4.Pt()) std::swap(first, second);
  int w = -1;
  for (int i = 0; i < int(leptons.size()); ++i)
    if (i != first && i != second && leptons[i].tight && (w < 0 || leptons[i].p4.Pt() > leptons[w].p4.Pt())) w = i;
  if (w < 0) return r;
  const Lepton &a = leptons[first], &b = leptons[second], &c = leptons[w];
  if (a.flavour == 13 && a.highPt != 2 && b.highPt != 2) return r;
  r.pass = true;
  auto z = a.p4 + b.p4;
  r.channel = 1 + 2 * (a.flavour == 13) + (c.flavour == 13);
  r.ZCand_mass = z.M(); r.ZCand_pt = z.Pt();
  r.ZCand_dR = ROOT::Math::VectorUtil::DeltaR(a.p4, b.p4);
  r.ZCand_dPhi = ROOT::Math::VectorUtil::DeltaPhi(b.p4, a.p4);
  r.ZCand_dEta = a.p4.Eta() - b.p4.Eta();
  r.ZLep1_pt = a.p4.Pt(); r.ZLep1_eta = a.p4.Eta(); r.ZLep1_phi = a.p4.Phi();
  r.ZLep2_pt = b.p4.Pt(); r.ZLep2_eta = b.p4.Eta(); r.ZLep2_phi = b.p4.Phi();
  r.WLep_pt = c.p4.Pt(); r.WLep_eta = c.p4.Eta(); r.WLep_phi = c.p4.Phi();
  r.WCand_mT = std::sqrt(2 * c.p4.Pt() * met * (1 - std::cos(c.p4.Phi() - metphi)));
  r.ThreeLep_mass = (z + c.p4).M();
  r.ThreeLep_sumPt = a.p4.Pt() + b.p4.Pt() + c.p4.Pt();
  return r;
}
}  // namespace trilepton
"""


def skim(
    source: Path, output: Path, reads: Sequence[str], makes: Sequence[str], keeps: Sequence[str], most: int = 0
) -> int:
    """Skim a file, or its first events at most, with one thread; return how many events passed."""
    import ROOT

    ROOT.gInterpreter.Declare(_SELECTION)
    options = ROOT.RDF.RSnapshotOptions()
    options.fCompressionAlgorithm = ROOT.RCompressionSetting.EAlgorithm.kZSTD
    options.fCompressionLevel = 5
    frame = ROOT.RDataFrame("Events", str(source))
    frame = frame.Range(most) if most else frame
    frame = frame.Define("result_", f"trilepton::select({', '.join(reads)})").Filter("result_.pass")
    for name in makes:
        frame = frame.Define(name, f"result_.{name}")
    passed = frame.Count()
    frame.Snapshot("Events", str(output), [*keeps, *makes], options)
    return int(passed.GetValue())
